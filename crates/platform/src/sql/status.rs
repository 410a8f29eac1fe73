//! What clients are told of a database's errors: Go's texts, and no internals (spec 01 §4, spec 06 A4).

use tonic::Code;

use super::DbError;

impl DbError {
    /// The gRPC code of a request that came to grief on it.
    pub fn code(&self) -> Code {
        match self {
            Self::UniqueViolation { .. } => Code::AlreadyExists,
            Self::InvalidValue { .. } => Code::InvalidArgument,
            Self::Serialization(_) => Code::Aborted,
            Self::Unavailable(_) | Self::UndefinedObject { .. } => Code::Unavailable,
            Self::Column { .. }
            | Self::Row { .. }
            | Self::Config(_)
            | Self::Panicked
            | Self::Other(_) => Code::Internal,
        }
    }

    /// The text that its client sees.
    pub fn public_text(&self) -> String {
        match self {
            Self::UniqueViolation { .. } => format!("value with matching already exists ({self})"),
            Self::InvalidValue { .. } => format!("failed database operation with {self}"),
            Self::UndefinedObject { .. } => {
                format!("cannot query with specified table attributes: {self}")
            }
            Self::Row { .. } | Self::Serialization(_) | Self::Unavailable(_) => self.to_string(),
            Self::Column { .. } | Self::Config(_) | Self::Panicked | Self::Other(_) => {
                "internal error".to_owned()
            }
        }
    }
}
