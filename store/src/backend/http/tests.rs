//! Against a real nginx, and a proxy before it that breaks answers.
#![allow(clippy::unwrap_used)]

mod faults;
mod nginx;

use std::path::Path;

use super::*;
use crate::Store;
use crate::backend::contract;
use crate::backend::local::LocalBackend;
use crate::import::{Layout, ReleaseTree};
use crate::listing::write_listing;
use faults::{Fault, Proxy};
use nginx::{Nginx, TOKEN};

fn settings(url: &str) -> HttpSettings {
    HttpSettings {
        url: url.to_owned(),
        bearer: None,
        proxies: Proxies::default(),
        ca: None,
        limits: Limits {
            connect: Duration::from_secs(2),
            idle: Duration::from_millis(400),
            tries: 3,
            pause: Duration::from_millis(10),
            bytes: 8 << 20,
        },
    }
}

fn open(settings: HttpSettings) -> HttpBackend {
    HttpBackend::open(settings, std::env::temp_dir()).unwrap()
}

fn with_token(url: &str, token: &str) -> HttpSettings {
    HttpSettings {
        bearer: Some(Bearer::new(token).unwrap()),
        ..settings(url)
    }
}

/// The error with its causes, and the hint.
fn told(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    format!("{text}; {}", error.hint().unwrap_or_default())
}

struct Site {
    nginx: Nginx,
    local: LocalBackend,
    _folder: tempfile::TempDir,
}

/// The objects of the contract and a listing, behind nginx.
async fn site() -> Site {
    let folder = tempfile::tempdir().unwrap();
    let local = LocalBackend::new(folder.path().join("store"));
    crate::fs::create_dirs(&local.spool()).unwrap();
    contract::prepare(&local).await;
    write_listing(&local).await.unwrap();
    Site {
        nginx: Nginx::serve(&folder.path().join("store")),
        local,
        _folder: folder,
    }
}

fn long() -> Bytes {
    let bytes = (0..300_000u32).map(|at| (at ^ (at >> 8)) as u8);
    bytes.collect::<Vec<_>>().into()
}

/// A site with the object `b/long`, read through a proxy with this plan.
async fn long_through(plan: impl IntoIterator<Item = Fault>) -> (Site, Proxy, HttpBackend) {
    let site = site().await;
    let put = site.local.put("b/long", Content::Bytes(long())).await;
    put.unwrap();
    let proxy = Proxy::before(site.nginx.port, plan).await;
    let backend = open(settings(&proxy.url("open")));
    (site, proxy, backend)
}

#[tokio::test]
async fn passes_the_contract_for_readers_with_ranges_without_and_with_a_token() {
    let site = site().await;
    contract::reads(&open(settings(&site.nginx.url("open")))).await;
    contract::reads(&open(settings(&site.nginx.url("whole")))).await;
    contract::reads(&open(with_token(&site.nginx.url("token"), TOKEN))).await;
    let tls = format!("https://127.0.0.1:{}/token/", site.nginx.tls_port);
    let with_ca = HttpSettings {
        ca: Some(site.nginx.file("cert.pem")),
        ..with_token(&tls, TOKEN)
    };
    contract::reads(&open(with_ca)).await;
    // The encrypted one came last: by HTTP/2, as both sides know it.
    assert!(site.nginx.read("access.log").contains(" HTTP/2.0 "));
}

#[tokio::test]
async fn nothing_is_written() {
    let backend = open(settings("http://127.0.0.1:9/"));
    let refused = |done| matches!(done, Err(StoreError::ReadOnly { .. }));
    let content = Content::Bytes(Bytes::new());
    assert!(refused(backend.put("a/x", content).await));
    assert!(refused(backend.put_advisory("a", Bytes::new()).await));
    assert!(refused(backend.delete("a/x").await));
}

#[tokio::test]
async fn a_release_is_checked_out_from_a_web_server() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, at) = (folder.path().join("tree"), folder.path().join("store"));
    std::fs::create_dir_all(tree.join("public")).unwrap();
    std::fs::write(tree.join("public/index.php"), "<?php\n").unwrap();
    std::fs::write(tree.join("public/long.bin"), long()).unwrap();
    let store = Store::open_or_create(&at).await.unwrap();
    let source = ReleaseTree {
        root: tree.clone(),
        layout: Layout::default(),
    };
    let release = store.import(&source, &|_| {}).await.unwrap().release;
    store.publish(&release).await.unwrap();
    write_listing(&LocalBackend::new(at.clone())).await.unwrap();

    let nginx = Nginx::serve(&at);
    let remote = Arc::new(open(settings(&nginx.url("open"))));
    let store = Store::open_backend(remote).await.unwrap();
    assert_eq!(store.releases().await.unwrap(), [release]);
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    store.checkout(&release, &out).await.unwrap();
    for name in ["public/index.php", "public/long.bin"] {
        let read = |root: &Path| std::fs::read(root.join(name)).unwrap();
        assert_eq!(read(&out), read(&tree));
    }
}

#[tokio::test]
async fn a_place_without_a_store_is_no_store() {
    let site = site().await;
    for below in ["open", "open/deeper"] {
        let backend = Arc::new(open(settings(&site.nginx.url(below))));
        let error = Store::open_backend(backend).await.unwrap_err();
        assert!(matches!(error, StoreError::NoStore { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn listing_is_asked_for_again_and_sent_again_only_when_it_changed() {
    let site = site().await;
    let backend = open(settings(&site.nginx.url("open")));
    assert_eq!(backend.list("a/").await.unwrap().len(), 3);
    assert_eq!(backend.list("ab/").await.unwrap().len(), 1);
    site.nginx.logged("/open/listing.zst 200").await;
    assert_eq!(site.nginx.read("access.log").lines().count(), 1);
    tokio::time::sleep(FRESH).await;
    assert_eq!(backend.list("").await.unwrap().len(), 4);
    site.nginx.logged("/open/listing.zst 304").await;

    let content = Content::Bytes(Bytes::from_static(b"3"));
    site.local.put("a/three", content).await.unwrap();
    // What is not listed yet is found by name.
    assert_eq!(backend.get("a/three").await.unwrap().unwrap(), "3");
    write_listing(&site.local).await.unwrap();
    tokio::time::sleep(FRESH).await;
    assert_eq!(backend.list("a/").await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_store_without_a_listing_says_how_to_get_one() {
    let site = site().await;
    site.local.delete(LISTING).await.unwrap();
    let backend = open(settings(&site.nginx.url("open")));
    let error = told(&backend.list("a/").await.unwrap_err());
    assert!(
        error.contains("cannot list listing.zst at http://127.0.0.1"),
        "{error}"
    );
    assert!(error.contains("relstore push"), "{error}");
    site.local.put_advisory(LISTING, long()).await.unwrap();
    let error = told(&backend.list("a/").await.unwrap_err());
    assert!(error.contains("not one zstd frame"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_down_is_tried_and_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let backend = open(settings(&format!("http://127.0.0.1:{port}/store/")));
    let error = told(&backend.get("a/one").await.unwrap_err());
    assert!(
        error.contains("cannot read a/one at http://127.0.0.1"),
        "{error}"
    );
    assert!(error.contains("refused"), "{error}");
    assert!(error.contains("3 tries"), "{error}");
}

#[tokio::test]
async fn a_cut_body_goes_on_where_it_ended() {
    let cuts = [120_000, 70_000, 90_000].map(Fault::Cut);
    let (_site, proxy, backend) = long_through(cuts).await;
    assert_eq!(backend.get("b/long").await.unwrap().unwrap(), long());
    let ranges: Vec<_> = proxy
        .seen()
        .iter()
        .map(|head| head.contains("range: bytes="))
        .collect();
    assert_eq!(ranges, [false, true, true, true]);

    let cuts = [120_000, 70_000].map(Fault::Cut);
    let (_site, _proxy, backend) = long_through(cuts).await;
    let part = backend.get_range("b/long", 1000, 250_000).await.unwrap();
    assert_eq!(part.unwrap(), long().slice(1000..251_000));
}

#[tokio::test]
async fn more_cuts_than_tries_are_fine_while_they_bring_something() {
    let (_site, proxy, backend) = long_through(vec![Fault::Cut(66_500); 4]).await;
    assert_eq!(backend.get("b/long").await.unwrap().unwrap(), long());
    assert_eq!(proxy.seen().len(), 5);
    let (_site, _proxy, backend) = long_through(vec![Fault::Cut(1000); 9]).await;
    let error = told(&backend.get("b/long").await.unwrap_err());
    assert!(error.contains("3 tries"), "{error}");
}

#[tokio::test]
async fn an_object_that_changes_between_two_tries_is_read_from_the_beginning() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\nETag: \"other\"\r\n\r\nother bytes";
    let (_site, _proxy, backend) = long_through([Fault::Say(head.into())]).await;
    assert_eq!(backend.get("b/long").await.unwrap().unwrap(), long());
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again_when_it_wants() {
    let busy = |status: &str, after: &str| {
        Fault::Say(format!(
            "HTTP/1.1 {status} x\r\n{after}Content-Length: 4\r\n\r\nbusy"
        ))
    };
    let plan = [busy("503", "Retry-After: 1\r\n"), busy("429", "")];
    let (_site, proxy, backend) = long_through(plan).await;
    let started = Instant::now();
    assert_eq!(backend.get("a/two").await.unwrap().unwrap(), "22");
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(proxy.seen().len(), 3);

    for status in ["500", "502", "503", "504"] {
        let (_site, _proxy, backend) = long_through(vec![busy(status, ""); 9]).await;
        let error = told(&backend.get("a/two").await.unwrap_err());
        let answered = format!("the server answered {status}, 3 tries");
        assert!(error.contains(&answered), "{error}");
    }
}

#[tokio::test]
async fn refusals_are_not_tried_again() {
    for (status, words) in [
        ("403", "answered 403"),
        ("400", "answered 400"),
        ("401", "wants a token"),
    ] {
        let said = Fault::Say(format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n"));
        let (_site, proxy, backend) = long_through(vec![said; 2]).await;
        let error = told(&backend.get("a/two").await.unwrap_err());
        assert!(error.contains(words), "{error}");
        assert_eq!(proxy.seen().len(), 1);
    }
}

#[tokio::test]
async fn silence_and_a_trickle_end_at_the_idle_limit_and_a_closed_connection_at_once() {
    for fault in [Fault::Silence, Fault::Trickle(5_000), Fault::Close] {
        let (_site, proxy, backend) = long_through([fault]).await;
        assert_eq!(backend.get("b/long").await.unwrap().unwrap(), long());
        assert_eq!(proxy.seen().len(), 2);
    }
    let (_site, _proxy, backend) = long_through(vec![Fault::Silence; 9]).await;
    let error = told(&backend.get("b/long").await.unwrap_err());
    assert!(error.contains("arrived for 0.4 s, 3 tries"), "{error}");
}

#[tokio::test]
async fn answers_that_are_not_what_was_asked_for_are_refused() {
    let head = |lines: &str| Fault::Say(format!("HTTP/1.1 {lines}\r\n\r\n0123456789"));
    let range = "206 x\r\nContent-Length: 10\r\nContent-Range: bytes";
    for (said, words) in [
        (
            head("200 x\r\nContent-Encoding: gzip\r\nContent-Length: 10"),
            "compressed",
        ),
        (head(&format!("{range} 0-9/10")), "other bytes"),
        (head(&format!("{range} 3-99/100")), "other bytes"),
        (head("206 x\r\nContent-Length: 10"), "other bytes"),
        (
            head("200 x\r\nContent-Length: 9000000000"),
            "more than 8388608 bytes",
        ),
        (head("304 x\r\nContent-Length: 10"), "answered 304"),
    ] {
        let (_site, _proxy, backend) = long_through([said]).await;
        // The last bytes of a long object, so that all of it has to be announced and read.
        let read = match words {
            "more than 8388608 bytes" => backend.get("b/long").await,
            _ => backend.get_range("b/long", 3, 10).await,
        };
        let error = told(&read.unwrap_err());
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_body_without_a_length_is_bounded() {
    let site = site().await;
    let mut endless = String::from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..9 {
        endless.push_str(&format!("100000\r\n{}\r\n", "x".repeat(1 << 20)));
    }
    let proxy = Proxy::before(site.nginx.port, [Fault::Say(endless)]).await;
    let error = open(settings(&proxy.url("open"))).get("a/one").await;
    let error = told(&error.unwrap_err());
    assert!(error.contains("more than 8388608 bytes"), "{error}");
}

#[tokio::test]
async fn parts_shorter_than_asked_for_are_put_together() {
    let part = |first: usize, last: usize| {
        let text = &"0123456789"[first..=last];
        Fault::Say(format!(
            "HTTP/1.1 206 x\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{last}/10\r\nConnection: close\r\n\r\n{text}",
            text.len()
        ))
    };
    let (_site, _proxy, backend) = long_through([part(2, 4), part(5, 9)]).await;
    let read = backend.get_range("a/one", 2, 99).await.unwrap().unwrap();
    assert_eq!(read, "23456789");
}

#[tokio::test]
async fn a_wrong_or_missing_token_is_told_apart_and_never_shown() {
    let site = site().await;
    let url = site.nginx.url("token");
    let missing = open(settings(&url)).get("a/one").await.unwrap_err();
    assert!(
        told(&missing).contains("wants a token"),
        "{}",
        told(&missing)
    );
    let wrong = open(with_token(&url, "tok-wrong")).get("a/one").await;
    let wrong = wrong.unwrap_err();
    assert!(
        told(&wrong).contains("refused the token"),
        "{}",
        told(&wrong)
    );
    assert!(!format!("{wrong:?}{}", told(&wrong)).contains("tok-wrong"));
    let refused = HttpBackend::open(with_token("http://host/", TOKEN), "/tmp".into());
    let refused = told(&refused.unwrap_err());
    assert!(refused.contains("only sent over https"), "{refused}");
}

#[tokio::test]
async fn redirects_take_the_token_along_only_to_the_same_server() {
    let site = site().await;
    let nginx = &site.nginx;
    let moved = open(with_token(&nginx.url("moved"), TOKEN));
    assert_eq!(moved.get("a/one").await.unwrap().unwrap(), "0123456789");

    let away = HttpSettings {
        ca: Some(nginx.file("cert.pem")),
        ..with_token(&nginx.url("away"), TOKEN)
    };
    assert_eq!(
        open(away).get("a/one").await.unwrap().unwrap(),
        "0123456789"
    );
    assert!(nginx.logged("/away/a/one 307").await.contains(TOKEN));
    let elsewhere = nginx.logged("/open/away/a/one 200").await;
    assert!(elsewhere.ends_with("\"-\""), "{elsewhere}");

    for (below, words) in [
        ("plain", "redirects to http://localhost"),
        ("loop", "without an end"),
    ] {
        let error = open(settings(&nginx.url(below))).get("a/one").await;
        let error = told(&error.unwrap_err());
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_ends_the_first_try() {
    let site = site().await;
    let url = format!("https://127.0.0.1:{}/open/", site.nginx.tls_port);
    let other = Nginx::serve(Path::new("/nowhere"));
    let backend = open(HttpSettings {
        ca: Some(other.file("cert.pem")),
        ..settings(&url)
    });
    let error = told(&backend.get("a/one").await.unwrap_err());
    assert!(error.contains("no secure connection"), "{error}");
    assert!(
        error.contains("`ca`") && !error.contains("tries"),
        "{error}"
    );
    let empty = HttpSettings {
        ca: Some(other.file("nginx.conf")),
        ..settings(&url)
    };
    let error = HttpBackend::open(empty, "/tmp".into()).unwrap_err();
    assert!(
        told(&error).contains("holds no certificates"),
        "{}",
        told(&error)
    );
}

#[tokio::test]
async fn a_proxy_is_used_but_for_the_hosts_that_need_none() {
    let site = site().await;
    let proxy = Proxy::before(site.nginx.port, []).await;
    let through = |none_for: Option<&str>| HttpSettings {
        proxies: Proxies {
            http: Some(format!("http://user:hunter2@127.0.0.1:{}", proxy.port)),
            https: None,
            none_for: none_for.map(str::to_owned),
        },
        ..settings("http://store.invalid/open/")
    };
    contract::reads(&open(through(None))).await;
    assert!(proxy.seen()[0].starts_with("get http://store.invalid/open/"));
    assert!(proxy.seen()[0].contains("proxy-authorization: basic "));
    let direct = open(through(Some(".invalid"))).get("a/one").await;
    let error = told(&direct.unwrap_err());
    assert!(error.contains("no answer"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}
