//! The answer to one request, put together from the messages of another machine. Pure.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use relstore_store::backend::Object;

use super::Request;
use crate::protocol::{MAX_PART, Message, StoreFault, StoreObject, StoreRefused};

/// Room that is made for an object before its bytes come: its length is only said so far.
const TRUSTED: u64 = 8 << 20;
/// Objects a list may have: more than any store, and some hundred megabytes.
const MAX_OBJECTS: usize = 4_000_000;

/// What a request is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// An object's bytes; `None` when there is no such object.
    Bytes(Option<Bytes>),
    /// A list.
    Objects(Vec<Object>),
    /// It is done.
    Done,
}

/// A whole answer, or the refusal.
pub(super) type Outcome = Result<Answer, StoreRefused>;

/// An answer that is still coming.
#[derive(Debug)]
pub(super) enum Partial {
    /// Bytes, of which there may be this many.
    Announced { most: u64 },
    /// Bytes, of which this many are missing.
    Bytes { bytes: Vec<u8>, missing: u64 },
    /// Objects whose names begin with this.
    Objects {
        prefix: String,
        objects: Vec<Object>,
    },
    /// Nothing but the word that it is done.
    Word,
}

impl Partial {
    /// The answer that a request gets.
    pub(super) fn to(request: &Request) -> Self {
        match request {
            Request::Get { length, .. } => Self::Announced { most: *length },
            Request::List { prefix } => Self::Objects {
                prefix: prefix.clone(),
                objects: Vec::new(),
            },
            Request::Put { .. } | Request::Delete { .. } | Request::Settle { .. } => Self::Word,
        }
    }

    /// Takes the next message: gives the answer once it is whole, else what is to come still.
    /// Fails in words when the message cannot belong to the answer.
    pub(super) fn take(self, message: Message) -> Result<Result<Outcome, Self>, String> {
        let name = message.name();
        match (self, message) {
            (_, Message::StoreRefused(refused)) if refused.fault == StoreFault::Protocol => {
                Err(format!("it does not understand: {}", refused.message))
            }
            (_, Message::StoreRefused(refused)) => Ok(Ok(Err(refused))),
            (Self::Announced { .. }, Message::StoreAbsent(_)) => Ok(Ok(Ok(Answer::Bytes(None)))),
            (Self::Announced { most }, Message::StoreFound(found)) => {
                let missing = found.length;
                if missing > most {
                    return Err(format!("{missing} bytes where {most} were asked for"));
                }
                let room = usize::try_from(missing.min(TRUSTED)).unwrap_or_default();
                let bytes = Vec::with_capacity(room);
                Ok(Self::Bytes { bytes, missing }.filled())
            }
            (Self::Bytes { bytes, missing }, Message::StoreBytes(part)) => {
                more_bytes(bytes, missing, &part.bytes).map(Self::filled)
            }
            (Self::Objects { prefix, objects }, Message::StoreObjects(part)) => {
                let objects = more_objects(&prefix, objects, part.objects)?;
                Ok(Err(Self::Objects { prefix, objects }))
            }
            (Self::Objects { objects, .. }, Message::StoreDone(_)) => {
                Ok(Ok(Ok(Answer::Objects(objects))))
            }
            (Self::Word, Message::StoreDone(_)) => Ok(Ok(Ok(Answer::Done))),
            _ => Err(format!("{name} came where it makes no sense")),
        }
    }

    /// The answer, when its last byte is there.
    fn filled(self) -> Result<Outcome, Self> {
        match self {
            Self::Bytes { bytes, missing: 0 } => Ok(Ok(Answer::Bytes(Some(bytes.into())))),
            other => Err(other),
        }
    }
}

fn more_bytes(mut bytes: Vec<u8>, missing: u64, part: &[u8]) -> Result<Partial, String> {
    let length = part.len() as u64;
    if part.is_empty() || part.len() > MAX_PART || length > missing {
        return Err(format!(
            "a part of {length} bytes where {missing} are missing"
        ));
    }
    bytes.extend_from_slice(part);
    Ok(Partial::Bytes {
        bytes,
        missing: missing - length,
    })
}

fn more_objects(
    prefix: &str,
    mut objects: Vec<Object>,
    part: Vec<StoreObject>,
) -> Result<Vec<Object>, String> {
    for object in part {
        let last = objects.last().map(|last: &Object| last.name.as_str());
        if !object.name.starts_with(prefix) || last >= Some(object.name.as_str()) {
            return Err("a list that is not in order".to_owned());
        }
        if objects.len() == MAX_OBJECTS {
            return Err("a list without end".to_owned());
        }
        objects.push(Object {
            name: object.name,
            size: object.size,
            modified: UNIX_EPOCH + Duration::from_nanos(object.modified_ns),
        });
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::{StoreAbsent, StoreBytes, StoreDone, StoreFound, StoreObjects};

    fn get(length: u64) -> Partial {
        let name = "a".to_owned();
        Partial::to(&Request::Get {
            name,
            offset: 0,
            length,
        })
    }

    fn list() -> Partial {
        let prefix = "a/".to_owned();
        Partial::to(&Request::List { prefix })
    }

    fn found(length: u64) -> Message {
        StoreFound { length }.into()
    }

    fn bytes(length: usize) -> Message {
        let bytes = vec![7; length];
        StoreBytes { bytes }.into()
    }

    fn objects(names: &[&str]) -> Message {
        let named = |name: &&str| StoreObject {
            name: (*name).to_owned(),
            size: 1,
            modified_ns: 1,
        };
        let objects = names.iter().map(named).collect();
        StoreObjects { objects }.into()
    }

    fn taken(partial: Partial, messages: Vec<Message>) -> Result<Outcome, String> {
        let mut partial = partial;
        for message in messages {
            match partial.take(message)? {
                Ok(outcome) => return Ok(outcome),
                Err(more) => partial = more,
            }
        }
        Err("not whole".into())
    }

    #[test]
    fn whole_answers_are_put_together() {
        let answer = taken(get(u64::MAX), vec![found(5), bytes(3), bytes(2)]);
        assert_eq!(
            answer.unwrap().unwrap(),
            Answer::Bytes(Some(Bytes::from_static(&[7; 5])))
        );
        let answer = taken(get(9), vec![found(0)]).unwrap().unwrap();
        assert_eq!(answer, Answer::Bytes(Some(Bytes::new())));
        let answer = taken(get(9), vec![StoreAbsent {}.into()]).unwrap().unwrap();
        assert_eq!(answer, Answer::Bytes(None));
        let pages = vec![
            objects(&["a/a", "a/b"]),
            objects(&["a/c"]),
            StoreDone {}.into(),
        ];
        let Answer::Objects(listed) = taken(list(), pages).unwrap().unwrap() else {
            panic!("no list");
        };
        assert_eq!(listed.len(), 3);
        let refused = StoreRefused {
            fault: StoreFault::Io,
            message: "no".into(),
        };
        let cut = taken(get(9), vec![found(5), bytes(3), refused.clone().into()]);
        assert_eq!(cut.unwrap().unwrap_err(), refused);
    }

    #[test]
    fn what_cannot_belong_to_an_answer_is_an_error() {
        let done = || Message::from(StoreDone {});
        let refused = StoreRefused {
            fault: StoreFault::Protocol,
            message: "what?".into(),
        };
        for (partial, messages) in [
            (get(4), vec![found(5)]),
            (get(9), vec![bytes(1)]),
            (get(9), vec![done()]),
            (get(9), vec![found(5), bytes(6)]),
            (get(9), vec![found(5), bytes(0)]),
            (get(u64::MAX), vec![found(u64::MAX), bytes(MAX_PART + 1)]),
            (get(9), vec![found(5), StoreAbsent {}.into()]),
            (get(9), vec![found(5), found(5)]),
            (list(), vec![objects(&["a/b", "a/a"])]),
            (list(), vec![objects(&["a/b"]), objects(&["a/b"])]),
            (list(), vec![objects(&["b/b"])]),
            (list(), vec![found(1)]),
            (Partial::Word, vec![found(1)]),
            (Partial::Word, vec![objects(&[])]),
            (Partial::Word, vec![refused.into()]),
        ] {
            let text = format!("{partial:?} {messages:?}");
            let error = taken(partial, messages).unwrap_err();
            assert_ne!(error, "not whole", "{text}");
        }
        // A liar's length makes no room.
        let Ok(Err(Partial::Bytes { bytes, .. })) = get(u64::MAX).take(found(u64::MAX)) else {
            panic!("not begun");
        };
        assert!(bytes.capacity() <= 16 << 20);
    }
}
