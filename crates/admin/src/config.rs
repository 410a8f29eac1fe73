//! What flyteadmin is configured by (spec 01 §21.2, spec 03 §2.6 and §6.1).

mod admin;
mod live;
mod sections;
mod server;
mod unheard;

pub use admin::AdminConfig;
pub use live::LiveConfig;
pub use sections::{
    ClusterPoolsConfig, ClusterResourcesConfig, CompilerRules, DomainConfig, DomainsConfig,
    FeatureGates, FlyteAdminConfig, NamespaceMappingConfig, PoolAssignment, RegistrationConfig,
    RemoteDataConfig, ResourceSetConfig, SignedUrlsConfig, TaskResourcesConfig, WhitelistScope,
    WhitelistScopes,
};
pub use server::{
    DataProxyConfig, DownloadConfig, GrpcConfig, SecurityConfig, ServerConfig, SslConfig,
    UploadConfig,
};
pub use unheard::UNHEARD;
