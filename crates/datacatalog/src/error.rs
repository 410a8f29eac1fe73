//! What goes wrong in datacatalog, and the one place where it becomes a gRPC status (spec 06 A4).
//!
//! Clients go by NOT_FOUND, which is a miss, and ALREADY_EXISTS; the texts are Go's. No answer is ever UNKNOWN.

use flyte_idl::text::prototext;
use flyte_platform::{
    Chain,
    blob::BlobError,
    server::status,
    sql::{DbError, Retryable},
};
use prost::{Message, Name};
use tonic::{Code, Status};

/// An error of an RPC.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong; the text names field and value.
    #[error("{0}")]
    Invalid(String),
    /// What the request names does not exist.
    #[error("missing entity of type {kind} with identifier {id}")]
    NotFound {
        /// `Dataset`, `Artifact` or `Tag`.
        kind: &'static str,
        /// Its id, as the reference prints it.
        id: String,
    },
    /// The artifact is known and its data is gone from the blob store: whoever asks has to make it anew.
    #[error("the data of artifact {artifact} is lost: there is no object at {location}")]
    LostData {
        /// The artifact's id.
        artifact: String,
        /// Where the data should be.
        location: String,
    },
    /// What the request creates exists already, by the primary key of this table.
    #[error(
        "value with matching already exists (duplicate key value violates unique constraint \"{table}_pkey\")"
    )]
    AlreadyExists {
        /// The table's name.
        table: &'static str,
    },
    /// An artifact without data, which nothing here makes.
    #[error("artifact [{0}] does not have any associated data")]
    NoData(String),
    /// A reservation that others took and released whenever it was asked for.
    #[error("the reservation changes hands too often; try again")]
    Contended,
    /// The relational store failed.
    #[error("the database failed")]
    Store(#[from] DbError),
    /// The blob store failed.
    #[error("{context}")]
    Blob {
        /// What was being done, with the location.
        context: String,
        /// Why it failed.
        #[source]
        source: BlobError,
    },
    /// What the blob store has is no literal.
    #[error("{context}")]
    Undecodable {
        /// What was being done, with the location.
        context: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No server but `serve-dummy` answers so.
    #[error("{0} answers nothing in serve-dummy")]
    Dummy(&'static str),
}

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// INVALID_ARGUMENT with `text`.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    /// INVALID_ARGUMENT `missing <field>`.
    pub fn missing(field: &str) -> Self {
        Self::Invalid(format!("missing {field}"))
    }

    /// NOT_FOUND for the entity that `id` describes as far as the request does.
    pub fn not_found<M: Message + Name>(kind: &'static str, id: &M) -> Self {
        Self::NotFound {
            kind,
            id: prototext(id),
        }
    }

    /// The gRPC code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::NotFound { .. } | Self::LostData { .. } => Code::NotFound,
            Self::AlreadyExists { .. } => Code::AlreadyExists,
            Self::Blob { source, .. } => match source {
                BlobError::NameTooLong(_) => Code::InvalidArgument,
                source if source.is_away() => Code::Unavailable,
                _ => Code::Internal,
            },
            Self::NoData(_) | Self::Undecodable { .. } => Code::Internal,
            Self::Store(error) => error.code(),
            Self::Contended => Code::Unavailable,
            Self::Dummy(_) => Code::Unimplemented,
        }
    }

    /// Logs why a request comes to nothing, and says with which code.
    pub(crate) fn logged(&self) -> Code {
        let code = self.code();
        match code {
            Code::Internal | Code::Unavailable | Code::Aborted => {
                tracing::error!(error = %Chain(self), "a request failed");
            }
            code => tracing::debug!(error = %Chain(self), %code, "a request was refused"),
        }
        code
    }

    /// The text that the client sees.
    pub fn public_text(&self) -> String {
        match self {
            Self::Store(error) => error.public_text(),
            Self::Blob { context, source } => match (source, source.away()) {
                (BlobError::NameTooLong(_), _) => format!("{context}: {source}"),
                (_, Some(reason)) => format!("{context}: storage is not available: {reason}"),
                (_, None) => context.clone(),
            },
            other => other.to_string(),
        }
    }
}

impl Retryable for Error {
    fn collided(&self) -> bool {
        matches!(self, Self::Store(error) if error.collided())
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = error.logged();
        status::of_message(code, error.public_text())
    }
}

#[cfg(test)]
mod tests {
    use flyte_idl::datacatalog::DatasetId;

    use super::*;

    #[test]
    fn each_error_has_the_code_and_text_that_clients_go_by() {
        let id = DatasetId {
            project: "p".to_owned(),
            name: "n".to_owned(),
            ..DatasetId::default()
        };
        for (error, code, text) in [
            (
                Error::missing("artifactID"),
                Code::InvalidArgument,
                "missing artifactID",
            ),
            (
                Error::not_found("Dataset", &id),
                Code::NotFound,
                "missing entity of type Dataset with identifier project:\"p\"  name:\"n\"",
            ),
            (
                Error::LostData {
                    artifact: "a".to_owned(),
                    location: "s3://b/k".to_owned(),
                },
                Code::NotFound,
                "the data of artifact a is lost: there is no object at s3://b/k",
            ),
            (
                Error::AlreadyExists { table: "tags" },
                Code::AlreadyExists,
                "value with matching already exists (duplicate key value violates unique constraint \"tags_pkey\")",
            ),
            (
                Error::Blob {
                    context: "Unable to store".to_owned(),
                    source: BlobError::NameTooLong("s3://b/k".to_owned()),
                },
                Code::InvalidArgument,
                "Unable to store: a part of \"s3://b/k\" is too long for a name in this storage",
            ),
            (
                Error::Blob {
                    context: "Unable to store".to_owned(),
                    source: BlobError::Store {
                        reference: "s3://b/k".to_owned(),
                        source: object_store::Error::Generic {
                            store: "S3",
                            source: "connection refused".into(),
                        },
                    },
                },
                Code::Unavailable,
                "Unable to store: storage is not available: it does not answer",
            ),
            (
                Error::Store(DbError::Panicked),
                Code::Internal,
                "internal error",
            ),
        ] {
            let status = Status::from(error);
            let told = status.message().replace("  ", " ");
            assert_eq!((status.code(), told), (code, text.replace("  ", " ")));
        }
    }
}
