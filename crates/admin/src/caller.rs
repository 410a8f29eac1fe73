//! Who calls, and what they may do.
//!
//! Every domain function takes a [`Caller`]. One policy object answers for all of them; until
//! authentication is configured every caller is anonymous and may do everything.

use prost::Name;
use tonic::{Extensions, Request};

use crate::{error::Result, unknown_fields::Incoming};

/// Who makes a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The authenticated user; empty for anonymous callers.
    pub user: String,
}

impl Caller {
    /// The caller that an authentication layer found, else the anonymous one.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_default()
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Looks at something.
    Read,
    /// Registers or describes entities.
    Register,
    /// Creates, changes or ends executions.
    Execute,
    /// Reports events of executions, and signals that they wait for.
    Report,
    /// Registers and changes projects.
    Administer,
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The platform as a whole.
    Platform,
    /// One project, and one of its domains if that is not empty.
    Project {
        /// The project's id.
        project: &'a str,
        /// The domain's id, or empty.
        domain: &'a str,
    },
}

impl<'a> Resource<'a> {
    /// A project and one of its domains; the platform if there is no project.
    pub fn of(project: &'a str, domain: &'a str) -> Self {
        if project.is_empty() {
            Self::Platform
        } else {
            Self::Project { project, domain }
        }
    }
}

/// Decides what callers may do.
#[derive(Clone, Debug, Default)]
pub enum Policy {
    /// Everybody may do everything: authentication is not configured.
    #[default]
    Open,
}

impl Policy {
    /// Refuses what `caller` may not do.
    ///
    /// # Errors
    /// PERMISSION_DENIED; the open policy has none.
    pub fn allow(&self, caller: &Caller, action: Action, resource: &Resource<'_>) -> Result<()> {
        match self {
            Self::Open => {
                tracing::trace!(user = caller.user, ?action, ?resource, "allowed");
                Ok(())
            }
        }
    }
}

/// Takes a request apart.
pub(crate) fn unpack<T>(request: Request<T>) -> (Caller, T) {
    let (_metadata, extensions, message) = request.into_parts();
    (Caller::of(&extensions), message)
}

/// Takes a request apart whose message is stored, unknown fields included.
pub(crate) fn unpack_stored<T: Name>(request: Request<T>) -> (Caller, Incoming<T>) {
    let (_metadata, extensions, message) = request.into_parts();
    let incoming = Incoming::of_request(message, &extensions);
    (Caller::of(&extensions), incoming)
}
