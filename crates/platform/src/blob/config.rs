//! Section `storage` (spec 07 §4.1).

use std::sync::Arc;

use object_store::{ObjectStore, local::LocalFileSystem, memory::InMemory, signer::Signer};
use serde::{Deserialize, Deserializer, Serialize};

use super::{BlobError, BlobStore, Inner};
use crate::config::{Secret, StringMap, Unheard, text_that};

/// Keys of section `storage` that change nothing.
pub const UNHEARD: &[Unheard] = &[Unheard {
    key: "storage.cache",
    instead: "objects are not cached",
}];

/// Section `storage`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageConfig {
    /// `s3`, `minio`, `local`, `mem` or `stow`. Only `mem` is special: `stow.kind` decides, else `connection`.
    #[serde(rename = "type", deserialize_with = "store_type")]
    pub kind: String,
    /// The base container (bucket); required.
    pub container: String,
    /// Allows other containers, opened when first used.
    #[serde(rename = "enable-multicontainer")]
    pub enable_multicontainer: bool,
    /// The older S3 form.
    pub connection: ConnectionConfig,
    /// Provider and its settings.
    pub stow: StowConfig,
    /// How large a blob may be that is read whole.
    pub limits: LimitsConfig,
    /// A second client for signing only, when clients reach the store under another name.
    #[serde(rename = "signedUrl")]
    pub signed_url: SignedUrlConfig,
    /// Accepted for compatibility; objects are not cached.
    pub cache: CacheConfig,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            kind: "s3".into(),
            container: String::new(),
            enable_multicontainer: false,
            connection: ConnectionConfig::default(),
            stow: StowConfig::default(),
            limits: LimitsConfig::default(),
            signed_url: SignedUrlConfig::default(),
            cache: CacheConfig::default(),
        }
    }
}

fn store_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text_that(deserializer, "one of s3, minio, local, mem, stow", |text| {
        ["s3", "minio", "local", "mem", "stow"].contains(&text)
    })
}

/// `minio` and `mem` are taken too: earlier versions said nothing against them.
fn stow_kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text_that(deserializer, "one of s3, google, azure, local", |text| {
        ["", "s3", "minio", "google", "azure", "local", "mem"].contains(&text)
    })
}

/// Section `storage.connection`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ConnectionConfig {
    /// URL of an S3-compatible endpoint; empty is AWS.
    pub endpoint: String,
    /// `accesskey` or `iam`.
    pub auth_type: String,
    /// Access key id.
    pub access_key: String,
    /// Secret key, for auth-type accesskey.
    pub secret_key: Secret,
    /// Region of the bucket, as AWS names it.
    pub region: String,
    /// Plain HTTP when the endpoint names no scheme.
    pub disable_ssl: bool,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            auth_type: "iam".into(),
            access_key: String::new(),
            secret_key: Secret::default(),
            region: "us-east-1".into(),
            disable_ssl: false,
        }
    }
}

/// Section `storage.stow`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StowConfig {
    /// `s3`, `google`, `azure` or `local`.
    #[serde(deserialize_with = "stow_kind")]
    pub kind: String,
    /// The provider's settings.
    pub config: StringMap,
}

/// Section `storage.limits`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsConfig {
    /// Largest object read, in MiB; 0 is no limit.
    #[serde(rename = "maxDownloadMBs")]
    pub max_download_mbs: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_download_mbs: 2,
        }
    }
}

/// Section `storage.signedUrl`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SignedUrlConfig {
    /// Merged over `stow.config` for the signing client.
    #[serde(rename = "stowConfigOverride")]
    pub stow_config_override: StringMap,
}

/// Section `storage.cache`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheConfig {
    /// Not used: closures are cached by the services that read them.
    pub max_size_mbs: i64,
    /// Not used: there is no garbage collector to tune.
    pub target_gc_percent: i64,
}

pub(super) type Opener = Box<dyn Fn(&str) -> Result<Arc<dyn ObjectStore>, BlobError> + Send + Sync>;

/// An open container: as a store, and for signing where the provider can.
struct Opened {
    store: Arc<dyn ObjectStore>,
    signer: Option<Arc<dyn Signer>>,
}

pub(super) fn open(config: &StorageConfig) -> Result<BlobStore, BlobError> {
    if config.container.is_empty() {
        return Err(BlobError::Configuration(
            "storage.container is empty; set it to the bucket that Flyte may write to \
             (initContainer is required even with `enable-multicontainer`)"
                .into(),
        ));
    }
    crate::tls::install_crypto_provider();
    let settings = Settings::of(config);
    let main = settings.open(&config.container)?;
    let signer = if config.signed_url.stow_config_override.0.is_empty() {
        main.signer
    } else {
        let mut signing = settings.clone();
        signing
            .values
            .0
            .extend(config.signed_url.stow_config_override.0.clone());
        signing.open(&config.container)?.signer
    };
    let scheme = settings.scheme().to_owned();
    let opener: Option<Opener> = config.enable_multicontainer.then(|| {
        let settings = settings.clone();
        Box::new(move |container: &str| Ok(settings.open(container)?.store)) as Opener
    });
    Ok(BlobStore::of_inner(Inner {
        scheme,
        container: config.container.clone(),
        store: main.store,
        signer,
        opener,
        opened: tokio::sync::Mutex::default(),
        max_download_mb: config.limits.max_download_mbs,
    }))
}

#[cfg(feature = "s3")]
pub(super) fn s3_signer(
    endpoint: &str,
    container: &str,
    access_key: &str,
    secret_key: &str,
) -> Result<Arc<dyn Signer>, BlobError> {
    crate::tls::install_crypto_provider();
    let settings = Settings {
        kind: "s3".into(),
        values: StringMap::from([
            ("endpoint", endpoint.to_owned()),
            ("access_key_id", access_key.to_owned()),
            ("secret_key", secret_key.to_owned()),
        ]),
    };
    let opened = settings.open(container)?;
    opened
        .signer
        .ok_or_else(|| BlobError::CannotSign("s3".into()))
}

/// Provider and settings, whichever of the two forms they came in.
#[derive(Clone)]
struct Settings {
    kind: String,
    values: StringMap,
}

impl Settings {
    fn of(config: &StorageConfig) -> Self {
        if config.kind == "mem" {
            return Self {
                kind: "mem".into(),
                values: StringMap::default(),
            };
        }
        if !config.stow.kind.is_empty() && !config.stow.config.0.is_empty() {
            return Self {
                kind: config.stow.kind.clone(),
                values: config.stow.config.clone(),
            };
        }
        let connection = &config.connection;
        let mut values = StringMap::from([
            ("auth_type", connection.auth_type.clone()),
            ("region", connection.region.clone()),
            ("disable_ssl", connection.disable_ssl.to_string()),
        ]);
        for (key, value) in [
            ("endpoint", connection.endpoint.as_str()),
            ("access_key_id", connection.access_key.as_str()),
            ("secret_key", connection.secret_key.expose()),
        ] {
            if !value.is_empty() {
                values.0.insert(key.to_owned(), value.to_owned());
            }
        }
        Self {
            kind: "s3".into(),
            values,
        }
    }

    fn scheme(&self) -> &str {
        match self.kind.as_str() {
            "google" => "gs",
            "azure" => "abfs",
            "local" => "file",
            other => other,
        }
    }

    fn get(&self, key: &str) -> &str {
        self.values.0.get(key).map_or("", String::as_str)
    }

    fn open(&self, container: &str) -> Result<Opened, BlobError> {
        match self.kind.as_str() {
            "mem" => Ok(Opened {
                store: Arc::new(InMemory::new()),
                signer: None,
            }),
            "local" => {
                // A container is a folder in the configured one, and nothing else.
                let mut parts = std::path::Path::new(container).components();
                let single = matches!(
                    (parts.next(), parts.next()),
                    (Some(std::path::Component::Normal(_)), None)
                );
                if !single {
                    return Err(BlobError::Configuration(format!(
                        "container {container:?} is not the name of a folder"
                    )));
                }
                let folder = std::path::Path::new(self.get("path")).join(container);
                std::fs::create_dir_all(&folder)
                    .and_then(|()| {
                        LocalFileSystem::new_with_prefix(&folder).map_err(std::io::Error::other)
                    })
                    .map(|store| Opened {
                        store: Arc::new(store),
                        signer: None,
                    })
                    .map_err(|error| self.failed(&error))
            }
            #[cfg(feature = "s3")]
            "s3" | "minio" => self.open_s3(container),
            #[cfg(feature = "gcs")]
            "google" => self.open_google(container),
            #[cfg(feature = "azure")]
            "azure" => self.open_azure(container),
            other => Err(BlobError::Configuration(format!(
                "unsupported stow.kind [{other}]; expected one of s3, google, azure, local"
            ))),
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> BlobError {
        BlobError::Configuration(format!(
            "unable to configure the storage for {}. Error: {error}",
            self.kind
        ))
    }

    #[cfg(feature = "s3")]
    fn open_s3(&self, container: &str) -> Result<Opened, BlobError> {
        use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
        let region = self.get("region");
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(container)
            .with_region(if region.is_empty() {
                "us-east-1"
            } else {
                region
            })
            .with_conditional_put(S3ConditionalPut::ETagMatch);
        let endpoint = self.get("endpoint");
        if !endpoint.is_empty() {
            let endpoint = if endpoint.contains("://") {
                endpoint.to_owned()
            } else if matches!(
                self.get("disable_ssl").to_lowercase().as_str(),
                "1" | "true"
            ) {
                format!("http://{endpoint}")
            } else {
                format!("https://{endpoint}")
            };
            // A named endpoint forces path-style addressing.
            builder = builder
                .with_allow_http(endpoint.starts_with("http://"))
                .with_endpoint(endpoint)
                .with_virtual_hosted_style_request(false);
        }
        if self.get("auth_type") != "iam" {
            builder = builder
                .with_access_key_id(self.get("access_key_id"))
                .with_secret_access_key(self.get("secret_key"));
        }
        let store = Arc::new(builder.build().map_err(|error| self.failed(&error))?);
        Ok(Opened {
            store: store.clone(),
            signer: Some(store),
        })
    }

    #[cfg(feature = "gcs")]
    fn open_google(&self, container: &str) -> Result<Opened, BlobError> {
        use object_store::gcp::GoogleCloudStorageBuilder;
        let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(container);
        let key = self.get("json");
        if !key.is_empty() {
            builder = builder.with_service_account_key(key);
        }
        let store = Arc::new(builder.build().map_err(|error| self.failed(&error))?);
        Ok(Opened {
            store: store.clone(),
            signer: Some(store),
        })
    }

    #[cfg(feature = "azure")]
    fn open_azure(&self, container: &str) -> Result<Opened, BlobError> {
        use object_store::azure::MicrosoftAzureBuilder;
        let account = self.get("account");
        let suffix = match (
            self.get("domain_suffix"),
            self.get("configDomainSuffix"),
            self.get("base_url"),
        ) {
            ("", "", "") => "core.windows.net",
            ("", "", base) => base,
            ("", chart, _) => chart,
            (suffix, ..) => suffix,
        };
        let mut builder = MicrosoftAzureBuilder::from_env()
            .with_account(account)
            .with_container_name(container)
            .with_endpoint(format!("https://{account}.blob.{suffix}"));
        let key = self.get("key");
        if !key.is_empty() {
            builder = builder.with_access_key(key);
        }
        let store = Arc::new(builder.build().map_err(|error| self.failed(&error))?);
        Ok(Opened {
            store: store.clone(),
            signer: Some(store),
        })
    }
}
