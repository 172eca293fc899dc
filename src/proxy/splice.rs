//! Names a data-parallel rank in a request (`--dp-aware`): the one exception to "bodies pass as they came".
//!
//! Rule: `"data_parallel_rank":N,` goes right after the first brace of a JSON object; every other byte stays. The client's
//! bytes are not changed, so another attempt starts from them again. A client that names a rank itself is not overruled, and
//! what the router cannot put a member into is sent as it is. In all but the first case the record says so. Deliberately not
//! here: finding the place (`wire::rank`), choosing the rank (the policy).

use std::borrow::Cow;

use http::Method;

use super::headers::RANK;
use super::intake::Call;
use crate::fleet::worker::{Rank, Worker};
use crate::wire::Endpoint;
use crate::wire::rank::{RankPlace, rank_place};

/// How a rank was named to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The rank; `None` if the client named one and it cannot be read.
    pub rank: Option<u32>,
    /// The word for the record.
    pub by: Cow<'static, str>,
}

/// What a worker is sent: the client's body, perhaps with a member put into it, and perhaps a header.
#[derive(Debug)]
pub struct Sent<'a> {
    /// The body in order; empty pieces are none.
    pub pieces: [&'a [u8]; 3],
    /// Value of `x-data-parallel-rank`, where the client's own does not pass.
    pub rank: Option<&'a [u8]>,
    /// For the record.
    pub named: Option<Named>,
}

/// The body for a worker, and the header where that is a rank.
pub fn body_for<'a>(worker: &'a Worker, call: &'a Call) -> Sent<'a> {
    let body = call.request.body();
    match &worker.rank {
        None => Sent { pieces: [body, &[], &[]], rank: None, named: None },
        Some(rank) => name(rank, call, body),
    }
}

fn name<'a>(rank: &'a Rank, call: &'a Call, body: &'a [u8]) -> Sent<'a> {
    let by_client = |rank| Sent {
        pieces: [body, &[], &[]],
        rank: None,
        named: Some(Named { rank, by: "client".into() }),
    };
    if let Some(own) = call.request.field(RANK) {
        return by_client(std::str::from_utf8(own).ok().and_then(|text| text.parse().ok()));
    }
    let place = if takes_members(call) { rank_place(body) } else { RankPlace::None };
    let (pieces, by) = match place {
        RankPlace::Taken(own) => return by_client(own),
        RankPlace::None => ([body, &[], &[]], "header"),
        RankPlace::Free { at_bytes, has_members } => {
            (spliced(body, at_bytes, has_members, &rank.member), "body")
        }
    };
    let named = Named { rank: Some(rank.number), by: by.into() };
    Sent { pieces, rank: Some(rank.value.as_bytes()), named: Some(named) }
}

/// A body that SGLang reads as a request it knows: unknown members of others might be refused, and coded ones cannot be read.
fn takes_members(call: &Call) -> bool {
    call.endpoint != Endpoint::Other && call.asked.method == Method::POST && !call.is_encoded
}

/// `member` ends with a comma, which an object without members must not get.
fn spliced<'a>(body: &'a [u8], at_bytes: usize, has_members: bool, member: &'a [u8]) -> [&'a [u8]; 3] {
    let member = if has_members { member } else { &member[..member.len() - 1] };
    [&body[..at_bytes], member, &body[at_bytes..]]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn splice(body: &str, rank: u32) -> Option<String> {
        let RankPlace::Free { at_bytes, has_members } = rank_place(body.as_bytes()) else {
            return None;
        };
        let member = Rank::new(rank).member;
        let pieces = spliced(body.as_bytes(), at_bytes, has_members, &member);
        Some(String::from_utf8(pieces.concat()).unwrap())
    }

    #[test]
    fn the_member_comes_first_and_every_other_byte_stays() {
        for (body, spliced) in [
            (r#"{"text":"a"}"#, r#"{"data_parallel_rank":3,"text":"a"}"#),
            (" \r\n{ \"text\" : \"a\" } ", " \r\n{\"data_parallel_rank\":3, \"text\" : \"a\" } "),
            (r"{}", r#"{"data_parallel_rank":3}"#),
            ("{ \n}", "{\"data_parallel_rank\":3 \n}"),
        ] {
            assert_eq!(splice(body, 3).as_deref(), Some(spliced));
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            Just(Value::from("data_parallel_rank")),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                members(inner).prop_map(Value::from),
            ]
        })
    }

    fn members(of: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
        let key = prop_oneof![4 => any::<String>(), 1 => Just("data_parallel_rank".to_owned())];
        prop::collection::btree_map(key, of, 0..4).prop_map(|m| m.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_spliced_body_is_the_same_json_and_one_member_more(
            body in members(value()),
            space in "[ \t\r\n]{0,4}",
            pretty: bool,
            rank: u32,
        ) {
            let mut whole = Value::from(body.clone());
            let text = if pretty { serde_json::to_string_pretty(&whole) } else { serde_json::to_string(&whole) };
            let text = format!("{space}{}{space}", text.unwrap());
            let spliced = splice(&text, rank);
            if body.contains_key("data_parallel_rank") {
                prop_assert_eq!(spliced, None);
            } else {
                whole["data_parallel_rank"] = json!(rank);
                let parsed: Value = serde_json::from_str(&spliced.unwrap()).unwrap();
                prop_assert_eq!(parsed, whole);
            }
        }
    }
}
