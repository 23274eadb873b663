//! Objects in a bucket that speaks S3.
//!
//! Every key is `<prefix><name>`. Servers differ in what they promise about conditional writes
//! (some answer 200 to `If-None-Match: *` and overwrite), so `put` relies on none: it looks first,
//! compares what is there, and writes only when nothing is. What two writers of one name could
//! race for is the same content under another compression, see `docs/decisions/0022`.
//!
//! An answer of 200 to a PUT means durable and visible; there is nothing to settle. Each object
//! carries the BLAKE3 of its bytes as metadata, so that large ones are compared without being read.

mod credentials;
mod failure;
mod upload;

use std::fmt;
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{
    Attribute, BackoffConfig, ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt,
    PutMode, PutOptions, RetryConfig,
};

use super::{Backend, Content, Object, is_object_name};
use crate::error::StoreError;
use upload::Offered;

/// Name of the metadata that holds the BLAKE3 of an object's bytes.
const DIGEST: &str = "relstore-blake3";
/// Objects up to this size are compared by their bytes, larger ones by their digest.
const SMALL: u64 = 1 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take, the request's own upload included: a part at 48 kB/s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(180);

/// Where a bucket is and who asks.
pub struct S3Settings<'a> {
    /// Bucket.
    pub bucket: String,
    /// Beginning of every key: empty, or ends in `/`.
    pub prefix: String,
    /// URL of a server other than AWS, without the bucket; `http://` is spoken only when it says so.
    /// Else `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` or the profile's.
    pub endpoint: Option<String>,
    /// Region; else `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile's, or `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket stands in the path of URLs, not in the name of the host.
    pub path_style: bool,
    /// Looks up an environment variable: credentials are found the way AWS's own tools do.
    pub variables: &'a (dyn Fn(&str) -> Option<String> + Sync),
}

/// A bucket, or the part of it below a prefix.
pub struct S3Backend {
    objects: AmazonS3,
    place: Place,
    prefix: String,
    spool: PathBuf,
}

/// Bucket and prefix as a URL.
#[derive(Clone)]
struct Place(String);

impl fmt::Debug for S3Backend {
    // The client's own output would tell more than a log should hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Backend({})", self.place.0)
    }
}

/// What a look at an object tells.
struct Present {
    size: u64,
    digest: Option<String>,
}

impl S3Backend {
    /// Takes a bucket. Asks no server yet, except where a credential has to be fetched at first use.
    ///
    /// # Errors
    /// [`StoreError::Remote`] when there are no credentials or the settings contradict themselves,
    /// [`StoreError::Io`] when the folder `spool` for large files cannot be made.
    pub fn open(settings: &S3Settings<'_>, spool: PathBuf) -> Result<Self, StoreError> {
        let prefix = settings.prefix.clone();
        let url = format!("s3://{}/{prefix}", settings.bucket);
        let place = Place(url.trim_end_matches('/').to_owned());
        let found = credentials::find(settings).map_err(|error| {
            let hint = error.hint();
            place.remote("open", "the bucket", Some(hint), error)
        })?;
        let builder = builder(settings, &found);
        let objects = found
            .credentials
            .configure(builder)
            .build()
            .map_err(|error| place.failed("open", "the bucket", &error))?;
        crate::fs::create_dirs(&spool)?;
        let backend = Self {
            objects,
            place,
            prefix,
            spool,
        };
        backend.key("format.json")?;
        Ok(backend)
    }

    /// The key of a name. Parts of names come from other machines; none may leave the prefix.
    fn key(&self, name: &str) -> Result<Key, StoreError> {
        let full = format!("{}{name}", self.prefix);
        match Key::parse(&full) {
            Ok(key) if key.as_ref() == full && is_object_name(name) => Ok(key),
            _ => Err(StoreError::Damaged {
                name: crate::name::escape(full.as_bytes()),
                what: "no object can have this name".into(),
            }),
        }
    }

    /// Size and digest of an object, or `None` when there is none.
    async fn look(&self, key: &Key, name: &str) -> Result<Option<Present>, StoreError> {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let answer = match self.objects.get_opts(key, options).await {
            // An answer to HEAD has no body that could say why; one to GET has.
            Err(error) if failure::unexplained(&error) => match self.objects.get(key).await {
                Err(explained) => Err(explained),
                Ok(_) => Err(error),
            },
            answer => answer,
        };
        let Some(answer) = self.place.present("look at", name, answer)? else {
            return Ok(None);
        };
        let digest = answer.attributes.get(&Attribute::Metadata(DIGEST.into()));
        Ok(Some(Present {
            size: answer.meta.size,
            digest: digest.map(|digest| digest.as_ref().to_owned()),
        }))
    }

    /// Whether what is there is what is offered; `None` when nothing is there (any more).
    async fn same(
        &self,
        key: &Key,
        name: &str,
        offered: &Offered,
    ) -> Result<Option<bool>, StoreError> {
        let Some(present) = self.look(key, name).await? else {
            return Ok(None);
        };
        if present.size != offered.size {
            return Ok(Some(false));
        }
        let digest = match present.digest {
            Some(digest) if present.size > SMALL => Some(digest),
            _ => self.digest_of_bytes(key, name).await?,
        };
        Ok(digest.map(|digest| digest == offered.digest))
    }

    /// BLAKE3 of an object's bytes, read piece by piece.
    async fn digest_of_bytes(&self, key: &Key, name: &str) -> Result<Option<String>, StoreError> {
        let answer = self.objects.get(key).await;
        let Some(answer) = self.place.present("read", name, answer)? else {
            return Ok(None);
        };
        let mut hasher = blake3::Hasher::new();
        let mut pieces = answer.into_stream();
        while let Some(piece) = pieces
            .try_next()
            .await
            .map_err(|error| self.place.failed("read", name, &error))?
        {
            hasher.update(&piece);
        }
        Ok(Some(hasher.finalize().to_hex().to_string()))
    }
}

/// Address, retries and time limits of the client.
fn builder(settings: &S3Settings<'_>, found: &credentials::Found) -> AmazonS3Builder {
    // The client takes the process's provider; the first one who needs it installs it.
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let plain = found
        .endpoint
        .as_deref()
        .is_some_and(|endpoint| endpoint.starts_with("http://"));
    let options = ClientOptions::new()
        .with_allow_http(plain)
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(ANSWER_TIMEOUT);
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(10),
            base: 3.0,
        },
        max_retries: 6,
        retry_timeout: Duration::from_secs(180),
    };
    // A dot in a bucket's name would leave what the certificate of `*.s3...` covers.
    let path_style = settings.path_style || settings.bucket.contains('.');
    let mut builder = AmazonS3Builder::new()
        .with_client_options(options)
        .with_retry(retry)
        .with_region(&found.region)
        .with_bucket_name(&settings.bucket)
        .with_virtual_hosted_style_request(!path_style)
        .with_disable_bulk_delete(true);
    if let Some(endpoint) = &found.endpoint {
        builder = builder.with_endpoint(match endpoint.split_once("://") {
            Some((scheme, host)) if !path_style => {
                format!("{scheme}://{}.{host}", settings.bucket)
            }
            _ => endpoint.clone(),
        });
    }
    builder
}

#[async_trait]
impl Backend for S3Backend {
    async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let answer = self.objects.get(&self.key(name)?).await;
        let Some(answer) = self.place.present("read", name, answer)? else {
            return Ok(None);
        };
        let bytes = answer.bytes().await;
        bytes
            .map(Some)
            .map_err(|error| self.place.failed("read", name, &error))
    }

    async fn get_range(
        &self,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        let key = self.key(name)?;
        if length > 0 {
            let options = GetOptions {
                range: Some(GetRange::Bounded(offset..offset.saturating_add(length))),
                ..GetOptions::default()
            };
            match self.objects.get_opts(&key, options).await {
                // Servers answer a range that begins past the end in several ways.
                Err(error) if !failure::absent(&error) => match self.look(&key, name).await? {
                    Some(present) if present.size > offset => {
                        return Err(self.place.failed("read", name, &error));
                    }
                    other => return Ok(other.map(|_| Bytes::new())),
                },
                answer => {
                    let Some(answer) = self.place.present("read", name, answer)? else {
                        return Ok(None);
                    };
                    let bytes = answer.bytes().await;
                    return bytes
                        .map(Some)
                        .map_err(|error| self.place.failed("read", name, &error));
                }
            }
        }
        Ok(self.look(&key, name).await?.map(|_| Bytes::new()))
    }

    async fn put(&self, name: &str, content: Content) -> Result<(), StoreError> {
        let key = self.key(name)?;
        let offered = Offered::of(content).await?;
        match self.same(&key, name, &offered).await? {
            Some(true) => Ok(()),
            Some(false) => Err(StoreError::Conflict {
                name: name.to_owned(),
            }),
            None => self.upload(&key, name, &offered).await,
        }
    }

    async fn put_advisory(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        let put = self.objects.put(&self.key(name)?, bytes.into()).await;
        put.map(drop)
            .map_err(|error| self.place.failed("write", name, &error))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let full = format!("{}{prefix}", self.prefix);
        let folder = match full.trim_end_matches('/') {
            "" => None,
            _ => Some(self.key(prefix.trim_end_matches('/')).or_else(|error| {
                // The prefix itself: its name was checked when the bucket was opened.
                match prefix {
                    "" => Ok(Key::from(self.prefix.as_str())),
                    _ => Err(error),
                }
            })?),
        };
        let mut listed: Vec<Object> = self
            .objects
            .list(folder.as_ref())
            .try_filter_map(|meta| {
                let name = meta.location.as_ref().strip_prefix(&self.prefix);
                let object = name
                    .filter(|name| name.starts_with(prefix))
                    .map(|name| Object {
                        name: name.to_owned(),
                        size: meta.size,
                        modified: meta.last_modified.into(),
                    });
                std::future::ready(Ok(object))
            })
            .try_collect()
            .await
            .map_err(|error| self.place.failed("list", prefix, &error))?;
        // Servers list by name, but not every one.
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let deleted = self.objects.delete(&self.key(name)?).await;
        self.place.present("delete", name, deleted).map(drop)
    }

    async fn refuses_to_replace(&self, name: &str) -> Result<Option<bool>, StoreError> {
        let key = self.key(name)?;
        self.put_advisory(name, Bytes::from_static(b"first"))
            .await?;
        let create = PutOptions::from(PutMode::Create);
        match self.objects.put_opts(&key, "other".into(), create).await {
            Ok(_) => Ok(Some(false)),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Some(true)),
            // Some servers know no conditions and say so.
            Err(error) if failure::not_implemented(&error) => Ok(Some(false)),
            Err(error) => Err(self.place.failed("write", name, &error)),
        }
    }

    fn spool(&self) -> PathBuf {
        self.spool.clone()
    }

    fn place(&self) -> String {
        self.place.0.clone()
    }
}
