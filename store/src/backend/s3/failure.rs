//! What a server's refusal means, and what to do about it.
//!
//! The client reports an answer as one text with the whole body in it. Bodies repeat the request,
//! key ids included, so only status, code and, where it names no key, the message are told.

use std::error::Error;

use super::Place;
use crate::error::StoreError;

/// The cause of a [`StoreError::Remote`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Cause(String);

/// The parts of an answer that are told.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: String,
    code: Option<String>,
    message: Option<String>,
    region: Option<String>,
}

/// Beginning of the text in which the client wraps an answer that is no success.
const REFUSED: &str = "Server returned non-2xx status code: ";

impl Place {
    /// An error of this place.
    pub(super) fn remote(
        &self,
        what: &'static str,
        name: &str,
        hint: Option<String>,
        source: impl Error + Send + Sync + 'static,
    ) -> StoreError {
        StoreError::Remote {
            what,
            name: name.to_owned(),
            place: self.0.as_str().into(),
            hint: hint.map(String::into_boxed_str),
            source: Box::new(source),
        }
    }

    /// An error of the client, explained.
    pub(super) fn failed(
        &self,
        what: &'static str,
        name: &str,
        error: &object_store::Error,
    ) -> StoreError {
        let (cause, hint) = explain(error);
        self.remote(what, name, hint, Cause(cause))
    }

    /// What was answered; `None` where the object is absent.
    pub(super) fn present<T>(
        &self,
        what: &'static str,
        name: &str,
        answer: object_store::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(self.failed(what, name, &error)),
        }
    }
}

/// Whether an object is not there. A bucket that is not there is an error, not an absent object.
pub(super) fn absent(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. })
        && answer_in(error).is_none_or(|answer| answer.code.as_deref() != Some("NoSuchBucket"))
}

/// Whether the server refused and did not say why.
pub(super) fn unexplained(error: &object_store::Error) -> bool {
    !absent(error) && answer_in(error).is_some_and(|answer| answer.code.is_none())
}

/// Whether the server does not know what was asked for.
pub(super) fn not_implemented(error: &object_store::Error) -> bool {
    answer_in(error).is_some_and(|answer| answer.status.starts_with("501"))
}

/// The error and all its causes, outermost first.
fn chain(error: &dyn Error) -> Vec<String> {
    let mut chain = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        chain.push(cause.to_string());
        source = cause.source();
    }
    chain
}

fn answer_in(error: &dyn Error) -> Option<Answer> {
    let chain = chain(error);
    let text = chain.iter().find_map(|text| text.strip_prefix(REFUSED))?;
    let (status, body) = text.split_once(": ").unwrap_or((text, ""));
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        let (text, _) = rest.split_once(&format!("</{name}>"))?;
        Some(
            text.trim()
                .replace("&quot;", "\"")
                .chars()
                .filter(|c| !c.is_control())
                .take(200)
                .collect(),
        )
    };
    Some(Answer {
        status: status.trim().to_owned(),
        code: element("Code"),
        message: element("Message"),
        region: element("Region"),
    })
}

/// The cause in one line, and what to do.
fn explain(error: &object_store::Error) -> (String, Option<String>) {
    let Some(answer) = answer_in(error) else {
        return unanswered(error);
    };
    // A message that refuses a key names it; people do mix up ids and secrets.
    let message = answer
        .message
        .as_deref()
        .filter(|_| !answer.status.starts_with("403"));
    let mut cause = format!("the server answered {}", answer.status);
    if let Some(code) = &answer.code {
        cause = format!("{cause} ({code})");
    }
    if let Some(message) = message {
        cause = format!("{cause}: {message}");
    }
    let hint = match (answer.code.as_deref(), &answer.status[..answer.status.len().min(3)]) {
        (Some("NoSuchBucket"), _) => Some("make the bucket, or correct its name in the URL; relstore makes none".to_owned()),
        (Some("RequestTimeTooSkewed"), _) => Some("set the clock of this machine; signatures hold for some minutes only".to_owned()),
        (Some("InvalidAccessKeyId" | "SignatureDoesNotMatch"), _) => Some(
            "the server knows no such key, or its secret is another one: look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or at the profile".to_owned(),
        ),
        (Some("ExpiredToken"), _) => Some("the session is over; get new credentials".to_owned()),
        (Some("AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException"), _) | (_, "301" | "307") => {
            Some(match &answer.region {
                Some(region) => format!("the bucket is in region `{region}`: set it with `region` or AWS_REGION"),
                None => "the bucket is in another region: set it with `region` or AWS_REGION".to_owned(),
            })
        }
        (_, "401" | "403") => Some(
            "the key is unknown to the server or may not do this: it needs s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and s3:ListBucket on the bucket".to_owned(),
        ),
        (_, "429" | "500" | "502" | "503" | "504") => Some("the server is overloaded or restarting; try again".to_owned()),
        _ => None,
    };
    (cause, hint)
}

/// No answer came, or none that the client understood.
fn unanswered(error: &object_store::Error) -> (String, Option<String>) {
    let chain = chain(error);
    let inside = |text: &str| chain.iter().any(|line| line.contains(text));
    let cause = chain.last().cloned().unwrap_or_default();
    let hint = if inside("169.254.") {
        "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    } else if inside("without LOCATION") {
        "the bucket is in another region: set it with `region` or AWS_REGION"
    } else if inside("certificate") {
        "the server's certificate is not trusted here; add its authority to those of this machine"
    } else {
        "is the endpoint right, and can this machine reach it?"
    };
    (cause, Some(hint.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: &str, body: &str) -> object_store::Error {
        object_store::Error::Generic {
            store: "S3",
            source: Box::new(Cause(format!("{REFUSED}{status}: {body}"))),
        }
    }

    #[test]
    fn refusals_say_what_to_do_and_name_no_key() {
        let body = |code: &str, rest: &str| {
            format!(
                "<?xml?><Error><Code>{code}</Code><Message>key AKSECRET is odd</Message>{rest}</Error>"
            )
        };
        for (status, code, rest, hint) in [
            ("403 Forbidden", "AccessDenied", "", "s3:ListBucket"),
            (
                "403 Forbidden",
                "InvalidAccessKeyId",
                "<AWSAccessKeyId>AKSECRET</AWSAccessKeyId>",
                "AWS_SECRET_ACCESS_KEY",
            ),
            (
                "403 Forbidden",
                "SignatureDoesNotMatch",
                "<StringToSign>AKSECRET</StringToSign>",
                "AWS_SECRET_ACCESS_KEY",
            ),
            ("403 Forbidden", "RequestTimeTooSkewed", "", "clock"),
        ] {
            let (cause, told) = explain(&refused(status, &body(code, rest)));
            assert_eq!(cause, format!("the server answered {status} ({code})"));
            let told = told.unwrap_or_default();
            assert!(told.contains(hint) && !told.contains("AKSECRET"), "{told}");
        }
        let wrong = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>no</Message><Region>eu-central-1</Region></Error>";
        let (cause, told) = explain(&refused("400 Bad Request", wrong));
        assert_eq!(
            cause,
            "the server answered 400 Bad Request (AuthorizationHeaderMalformed): no"
        );
        assert!(told.unwrap_or_default().contains("`eu-central-1`"));
    }

    #[test]
    fn missing_bucket_is_no_absent_object() {
        let not_found = |code: &str| object_store::Error::NotFound {
            path: "a".into(),
            source: Box::new(Cause(format!(
                "{REFUSED}404 Not Found: <Error><Code>{code}</Code></Error>"
            ))),
        };
        assert!(absent(&not_found("NoSuchKey")));
        assert!(!absent(&not_found("NoSuchBucket")));
        let (_, hint) = explain(&not_found("NoSuchBucket"));
        assert!(hint.unwrap_or_default().contains("make the bucket"));
    }
}
