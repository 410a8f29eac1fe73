//! What rows of one name have in common.

use flyte_core::identifiers::EntityId;
use sea_query::{Condition, Expr, ExprTrait as _};

/// Project, domain and name: of the versions of an entity, or of executions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names<'a> {
    /// Id of the project.
    pub project: &'a str,
    /// Id of the domain.
    pub domain: &'a str,
    /// The name; empty stands for all of the domain.
    pub name: &'a str,
}

impl<'a> Names<'a> {
    /// Those of an entity, whatever its version.
    pub fn of(id: &'a EntityId) -> Self {
        Self {
            project: id.project.as_str(),
            domain: id.domain.as_str(),
            name: id.name.as_str(),
        }
    }

    /// In the order of the columns that begin a key of an entity or of an execution; what is empty is left out.
    pub(super) fn columns(
        self,
        key: impl IntoIterator<Item = &'static str>,
    ) -> Vec<(&'static str, String)> {
        key.into_iter()
            .zip([self.project, self.domain, self.name].map(str::to_owned))
            .filter(|(_, value)| !value.is_empty())
            .collect()
    }

    /// The rows of `table`, whose columns are `project`, `domain` and `name`.
    pub(super) fn condition(self, table: &'static str) -> Condition {
        let scope = Condition::all()
            .add(Expr::col((table, "project")).eq(self.project))
            .add(Expr::col((table, "domain")).eq(self.domain));
        if self.name.is_empty() {
            return scope;
        }
        scope.add(Expr::col((table, "name")).eq(self.name))
    }
}
