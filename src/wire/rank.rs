//! Where in a request body a data-parallel rank can be named, or who has named one there.
//!
//! Rule: as everywhere in `wire`, bytes in and facts out. A place is told only for a body that is one whole JSON object, so
//! that what is put there makes another one. Deliberately not here: putting it there (`proxy::splice`).

use super::json::{Cursor, Kind, Malformed};

/// What a body says about ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankPlace {
    /// A JSON object that names none.
    Free {
        /// Bytes before the place: those up to and with the first brace.
        at_bytes: usize,
        /// It has members, so that a comma must follow.
        has_members: bool,
    },
    /// The client has named one itself, here if it can be read.
    Taken(Option<u32>),
    /// No JSON object, or one whose own member says "no rank": nothing can be put in that would count.
    None,
}

/// Looks for `data_parallel_rank` and for its newer name, `routed_dp_rank`, among the members of the outermost object.
pub fn rank_place(body: &[u8]) -> RankPlace {
    look(body).unwrap_or(RankPlace::None)
}

fn look(body: &[u8]) -> Result<RankPlace, Malformed> {
    let mut json = Cursor::new(body);
    if json.peek()? != Kind::Object {
        return Ok(RankPlace::None);
    }
    let mut has_members = false;
    let mut own = None;
    json.object(|key, json| {
        has_members = true;
        if matches!(key, b"data_parallel_rank" | b"routed_dp_rank") {
            own = Some(match json.peek()? {
                // Read as "none" by the server; put before it another would be overruled by it.
                Kind::Null => json.skip().map(|_| RankPlace::None)?,
                _ => RankPlace::Taken(json.u64()?.and_then(|rank| u32::try_from(rank).ok())),
            });
            return Ok(());
        }
        json.skip().map(drop)
    })?;
    json.end()?;
    // The first brace: only white space can stand before it.
    let at_bytes = body.iter().position(|b| *b == b'{').ok_or(Malformed)? + 1;
    Ok(own.unwrap_or(RankPlace::Free { at_bytes, has_members }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_object_without_a_rank_has_a_place() {
        let free = |at_bytes, has_members| RankPlace::Free { at_bytes, has_members };
        for (body, place) in [
            (r"{}", free(1, false)),
            (" \n{\t}", free(3, false)),
            (r#"{"a":{"data_parallel_rank":1}}"#, free(1, true)),
            (r#"{"text":"data_parallel_rank"}"#, free(1, true)),
            (r#"{"data_parallel_rank":2}"#, RankPlace::Taken(Some(2))),
            (r#"{"a":1,"routed_dp_rank" : 0}"#, RankPlace::Taken(Some(0))),
            (r#"{"d\u0061ta_parallel_rank":5}"#, RankPlace::Taken(Some(5))),
            (r#"{"data_parallel_rank":"x"}"#, RankPlace::Taken(None)),
            (r#"{"data_parallel_rank":null}"#, RankPlace::None),
            (r#"{"a":1"#, RankPlace::None),
            (r#"{"a":1} x"#, RankPlace::None),
            (r"[{}]", RankPlace::None),
            (r#""{""#, RankPlace::None),
            ("", RankPlace::None),
        ] {
            assert_eq!(rank_place(body.as_bytes()), place, "{body}");
        }
    }
}
