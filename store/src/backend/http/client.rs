//! The HTTP client and what it may be used for: which URLs, who gets the token, which proxy.

use std::fmt;
use std::net::IpAddr;
use std::sync::Once;

use reqwest::header::HeaderValue;
use reqwest::{Certificate, Client, NoProxy, Proxy, Url};

use super::HttpSettings;
use super::failure::{Failure, HttpError, innermost};

/// A token for a web server, as the header it is sent in. It has no `Display`, and `Debug` does not
/// show it.
#[derive(Debug, Clone)]
pub struct Bearer(HeaderValue);

/// A text that cannot be sent as a token. The text is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not one token of printable ASCII")]
pub struct BearerError;

impl Bearer {
    /// Takes a token of printable ASCII without blanks.
    ///
    /// # Errors
    /// [`BearerError`].
    pub fn new(token: &str) -> Result<Self, BearerError> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BearerError);
        }
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| BearerError)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Proxies as the usual variables name them; they may hold passwords, so `Debug` shows none. What is
/// on this machine is always reached directly.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For `https://`: the value of `HTTPS_PROXY`.
    pub https: Option<String>,
    /// For `http://`: the value of `HTTP_PROXY`.
    pub http: Option<String>,
    /// Hosts that are reached directly: the value of `NO_PROXY`.
    pub none_for: Option<String>,
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxies(...)")
    }
}

/// The URL that all objects lie below.
pub(super) fn base(text: &str) -> Result<Url, Failure> {
    let refused = |what: &'static str| Failure::last(HttpError::Setting(what));
    let mut url = Url::parse(text).map_err(|_| refused("it is not an URL"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(refused("it is not the URL of a web server"));
    }
    let secret = !url.username().is_empty() || url.password().is_some();
    if secret || url.query().is_some() || url.fragment().is_some() {
        return Err(refused(
            "a store's URL holds neither a password nor a query",
        ));
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

/// An URL for messages: without all that may be a secret in a wrong one.
pub(super) fn shown(text: &str) -> String {
    let end = text.find(['?', '#']).unwrap_or(text.len());
    let (scheme, rest) = text[..end].split_once("://").unwrap_or(("", &text[..end]));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}/{path}")
        .trim_end_matches('/')
        .to_owned()
}

/// Refuses to send a token over a network that could read it.
pub(super) fn guard(base: &Url, bearer: Option<&Bearer>) -> Result<(), Failure> {
    if bearer.is_some() && base.scheme() != "https" && !is_loopback(base) {
        let error = HttpError::Setting("a token is only sent over https");
        return Err(Failure::last(error).hint("write the store's URL with `https://`"));
    }
    Ok(())
}

/// Whether an URL leads to this machine without asking any name server.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Whether two URLs are of the same scheme, host and port.
pub(super) fn same_origin(one: &Url, two: &Url) -> bool {
    let origin = |url: &Url| {
        let host = url.host_str().unwrap_or_default().to_owned();
        (url.scheme().to_owned(), host, url.port_or_known_default())
    };
    origin(one) == origin(two)
}

pub(super) fn build(base: &Url, settings: &HttpSettings) -> Result<Client, Failure> {
    static PROVIDER: Once = Once::new();
    // Fails only when the process has a provider already, which then serves as well.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let mut builder = Client::builder()
        .connect_timeout(settings.limits.connect)
        // Followed by hand: the token goes to the store's own server only.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // The environment is the program's; what it says of proxies comes in the settings.
        .no_proxy()
        .user_agent(concat!("relstore/", env!("CARGO_PKG_VERSION")));
    if !is_loopback(base) {
        for proxy in proxies(&settings.proxies)? {
            builder = builder.proxy(proxy);
        }
    }
    if let Some(path) = &settings.ca {
        let unusable = || HttpError::Certificates { path: path.clone() };
        let pem = std::fs::read(path).map_err(|_| Failure::last(unusable()))?;
        let certificates =
            Certificate::from_pem_bundle(&pem).map_err(|_| Failure::last(unusable()))?;
        if certificates.is_empty() {
            return Err(Failure::last(unusable()));
        }
        builder = builder.tls_certs_merge(certificates);
    } else if base.scheme() == "http" && is_loopback(base) {
        // The system's certificates are not needed, so a machine without any will do.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| {
        Failure::last(HttpError::Client {
            reason: innermost(&error),
        })
    })
}

fn proxies(said: &Proxies) -> Result<Vec<Proxy>, Failure> {
    let direct = said.none_for.as_deref().and_then(NoProxy::from_string);
    let one = |value: &Option<String>, make: fn(&str) -> reqwest::Result<Proxy>| {
        let Some(value) = value.as_deref().filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        // The cause would repeat the URL, and with it a password.
        make(value)
            .map(|proxy| Some(proxy.no_proxy(direct.clone())))
            .map_err(|_| Failure::last(HttpError::Setting("the URL of the proxy cannot be used")))
    };
    let https = one(&said.https, |url| Proxy::https(url))?;
    let http = one(&said.http, |url| Proxy::http(url))?;
    Ok(https.into_iter().chain(http).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        let bearer = Bearer::new("hunter2").unwrap();
        let proxies = Proxies {
            https: Some("http://user:hunter2@proxy".into()),
            ..Proxies::default()
        };
        assert!(!format!("{bearer:?}{proxies:?}").contains("hunter2"));
        assert_eq!(
            shown("https://user:hunter2@host/a?token=hunter2"),
            "https://host/a"
        );
        for text in ["", "two words", "l\u{f6}", "line\n"] {
            assert!(Bearer::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_plain_urls_of_web_servers_are_taken() {
        assert_eq!(
            base("https://host/store").unwrap().as_str(),
            "https://host/store/"
        );
        for text in [
            "host/store",
            "ftp://host/",
            "file:///srv",
            "https://user@host/",
            "https://host/?a",
            "https://host/#a",
        ] {
            assert!(base(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_crosses_no_network_in_the_clear() {
        let bearer = Bearer::new("token").unwrap();
        let allowed = |text: &str| guard(&base(text).unwrap(), Some(&bearer)).is_ok();
        for text in [
            "https://host/",
            "http://127.0.0.1:80/",
            "http://[::1]/",
            "http://localhost:8377/",
        ] {
            assert!(allowed(text), "{text}");
        }
        for text in [
            "http://host/",
            "http://10.0.0.1/",
            "http://localhost.example.com/",
            "http://127.0.0.1.example.com/",
            "http://[::ffff:10.0.0.1]/",
        ] {
            assert!(!allowed(text), "{text}");
        }
    }
}
