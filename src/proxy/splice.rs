//! Names a data-parallel rank in a request (`--dp-aware`): the one exception to "bodies pass as they came".
//!
//! Rule: `"data_parallel_rank":N,` goes right after the first brace of a JSON object; every other byte stays. The client's
//! bytes are not changed, so another attempt starts from them again. A client that names a rank itself is not overruled, and
//! what the router cannot put a member into is sent as it is. In all but the first case the record says so. Deliberately not
//! here: finding the place (`wire::rank`), choosing the rank (the policy).

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderName, Method};

use super::intake::Call;
use crate::fleet::worker::{Rank, Worker};
use crate::http1::RequestBody;
use crate::wire::Endpoint;
use crate::wire::rank::{RankPlace, rank_place};

/// SGLang 0.5.10 and later read the rank here on the OpenAI endpoints, and believe it over the body.
const RANK: HeaderName = HeaderName::from_static("x-data-parallel-rank");

/// How a rank was named to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The rank; `None` if the client named one and it cannot be read.
    pub rank: Option<u32>,
    /// The word for the record.
    pub by: Cow<'static, str>,
}

/// The body for a worker; where that is a rank, `headers` get it too.
pub fn body_for(worker: &Worker, call: &Call, headers: &mut HeaderMap) -> (RequestBody, Option<Named>) {
    match &worker.rank {
        None => (call.body.clone().into(), None),
        Some(rank) => {
            let (body, named) = name(rank, call, headers);
            (body, Some(named))
        }
    }
}

fn name(rank: &Rank, call: &Call, headers: &mut HeaderMap) -> (RequestBody, Named) {
    let as_it_came = || RequestBody::from(call.body.clone());
    if let Some(own) = headers.get(RANK) {
        let own = own.to_str().ok().and_then(|text| text.parse().ok());
        return (as_it_came(), Named { rank: own, by: "client".into() });
    }
    let place = if takes_members(call) { rank_place(&call.body) } else { RankPlace::None };
    let (body, by) = match place {
        RankPlace::Taken(own) => return (as_it_came(), Named { rank: own, by: "client".into() }),
        RankPlace::None => (as_it_came(), "header"),
        RankPlace::Free { at_bytes, has_members } => {
            (spliced(&call.body, at_bytes, has_members, &rank.member), "body")
        }
    };
    headers.insert(RANK, rank.value.clone());
    (body, Named { rank: Some(rank.number), by: by.into() })
}

/// A body that SGLang reads as a request it knows: unknown members of others might be refused, and coded ones cannot be read.
fn takes_members(call: &Call) -> bool {
    call.endpoint != Endpoint::Other
        && call.method == Method::POST
        && !call.headers.contains_key(CONTENT_ENCODING)
        && !call.headers.contains_key("x-body-compressed")
}

/// `member` ends with a comma, which an object without members must not get.
fn spliced(body: &Bytes, at_bytes: usize, has_members: bool, member: &Bytes) -> RequestBody {
    let member = if has_members { member.clone() } else { member.slice(..member.len() - 1) };
    RequestBody::Pieces(Box::new([body.slice(..at_bytes), member, body.slice(at_bytes..)]))
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
        let body = Bytes::from(body.to_owned());
        match spliced(&body, at_bytes, has_members, &Rank::new(rank).member) {
            RequestBody::Pieces(pieces) => Some(String::from_utf8(pieces.concat()).unwrap()),
            RequestBody::Whole(_) => None,
        }
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
