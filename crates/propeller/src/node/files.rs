//! Where a node's files are (spec 04 §9.2).

use flyte_core::{layout, reference::InvalidReference};

/// The folders of a node's attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFiles(layout::Node);

impl NodeFiles {
    /// Of a node of the workflow itself.
    pub fn top_level(data_dir: &str, node: &str, attempt: u32) -> Result<Self, InvalidReference> {
        layout::Node::top_level(data_dir, node, attempt).map(Self)
    }

    /// Of a node inside another, whose output folder is `parent_output`.
    pub fn nested(parent_output: &str, node: &str, attempt: u32) -> Result<Self, InvalidReference> {
        layout::Node::nested(parent_output, node, attempt).map(Self)
    }

    /// Where the attempt writes.
    pub fn output(&self) -> &str {
        &self.0.output
    }

    /// `inputs.pb`.
    pub fn inputs(&self) -> String {
        Self::file(self.0.inputs())
    }

    /// `outputs.pb`.
    pub fn outputs(&self) -> String {
        Self::file(self.0.outputs())
    }

    /// `error.pb`.
    pub fn error(&self) -> String {
        Self::file(self.0.error())
    }

    /// `deck.html`.
    pub fn deck(&self) -> String {
        Self::file(self.0.deck())
    }

    /// `futures.pb`.
    pub fn futures(&self) -> String {
        Self::file(self.0.futures())
    }

    /// `dynamic_compiled.pb`.
    pub fn dynamic_closure(&self) -> String {
        Self::file(self.0.dynamic_closure())
    }

    /// `task.pb`.
    pub fn task_template(&self) -> String {
        Self::file(self.0.task_template())
    }

    /// A fixed name below a folder that is a reference is one too.
    fn file(uri: Result<String, InvalidReference>) -> String {
        uri.unwrap_or_default()
    }
}
