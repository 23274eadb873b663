#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::secret::Secret;

/// A server that gives the n-th request the n-th answer, the last one from then on; returns its
/// URL and the requests it saw. An empty answer is never sent.
async fn server(answers: &[&str]) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
    let requests = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            request.truncate(length);
            let count = {
                let mut requests = requests.lock().unwrap();
                requests.push(String::from_utf8(request).unwrap());
                requests.len()
            };
            let answer = answers[(count - 1).min(answers.len() - 1)].clone();
            if answer.is_empty() {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    drop(stream);
                });
            } else {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    (url, seen)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    )
}

fn checks(url: &str) -> Vec<HealthCheck> {
    let bearer = Some(Secret::new("sentinel-7f3a"));
    vec![HealthCheck {
        url: format!("{url}/health"),
        bearer,
    }]
}

fn release() -> ReleaseId {
    ReleaseId::of(b"new")
}

async fn run(url: &str, attempts: u32) -> Result<Healthy, HealthError> {
    check(
        &checks(url),
        &[release()],
        attempts,
        Duration::from_millis(5),
    )
    .await
}

#[tokio::test]
async fn passes_at_the_attempt_that_is_answered_with_200() {
    let bad = answer("500 Internal Server Error", "", "boom");
    let good = answer("200 OK", "", "fine");
    let (url, seen) = server(&[&bad, &bad, &good]).await;
    let healthy = run(&url, 6).await.unwrap();
    assert_eq!(
        healthy,
        Healthy {
            answers: 1,
            confirmed: 0,
            attempt: 3
        }
    );
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    assert!(
        seen[0].contains("authorization: Bearer sentinel-7f3a"),
        "{}",
        seen[0]
    );
}

#[tokio::test]
async fn error_names_url_status_body_and_attempts_and_no_token() {
    let echo = answer(
        "500 Internal Server Error",
        "",
        "token was sentinel-7f3a\nsorry\u{1b}[31m",
    );
    let (url, seen) = server(&[&echo]).await;
    let error = run(&url, 3).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("GET {url}/health answered 500, attempt 3 of 3: token was (secret) sorry [31m")
    );
    assert!(!format!("{error:?} {:?}", checks(&url)).contains("sentinel"));
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn token_at_the_cut_of_the_excerpt_is_hidden_whole() {
    let body = format!("{}sentinel-7f3a", "x".repeat(EXCERPT_BYTES - 5));
    let (url, _) = server(&[&answer("500 Internal Server Error", "", &body)]).await;
    let error = run(&url, 1).await.unwrap_err().to_string();
    assert!(
        !error.contains("senti") && error.ends_with("x(secr"),
        "{error}"
    );
}

#[tokio::test]
async fn redirect_is_no_health() {
    let (url, seen) = server(&[&answer("302 Found", "location: /login\r\n", "")]).await;
    let error = run(&url, 1).await.unwrap_err();
    assert!(
        matches!(error, HealthError::Status { status: 302, .. }),
        "{error:?}"
    );
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn answer_of_another_release_fails_and_of_this_one_confirms() {
    let other = ReleaseId::of(b"old");
    let header = format!("x-release: {other}\r\n");
    let (url, _) = server(&[&answer("200 OK", &header, "")]).await;
    let error = run(&url, 2).await.unwrap_err();
    assert!(
        matches!(error, HealthError::OtherRelease { answered, attempts: 2, .. } if answered == other),
        "{error:?}"
    );
    // PHP's workers take a moment to notice: the old release first, then the new one.
    let (old, new) = (
        format!("{{\"release\":\"{other}\"}}"),
        format!("{{\"release\":\"{}\"}}", release()),
    );
    let (url, _) = server(&[&answer("200 OK", "", &old), &answer("200 OK", "", &new)]).await;
    let healthy = run(&url, 5).await.unwrap();
    assert_eq!(
        healthy,
        Healthy {
            answers: 1,
            confirmed: 1,
            attempt: 2
        }
    );
}

#[tokio::test]
async fn nobody_listening_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = run(&url, 2).await.unwrap_err().to_string();
    assert!(
        error.contains("got no answer") && error.contains("refused"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn silence_ends_after_the_limit_of_a_request() {
    let (url, _) = server(&[""]).await;
    let error = run(&url, 1).await.unwrap_err().to_string();
    assert!(error.contains("no answer within 10 s"), "{error}");
}

#[test]
fn user_and_password_of_a_url_are_not_shown() {
    assert_eq!(shown("https://u:p@host:1/x?a=@"), "https://host:1/x?a=@");
    assert_eq!(shown("http://host/a@b"), "http://host/a@b");
}
