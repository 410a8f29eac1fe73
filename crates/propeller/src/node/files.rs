//! Where a node's files are (spec 04 §9.2).

use flyte_core::{layout, reference::InvalidReference};

/// The folders of a node's attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFiles {
    folders: layout::Node,
    /// Where the inputs are, unless they are in its own folder: an element's are those of its array.
    shared_inputs: Option<String>,
}

impl NodeFiles {
    /// Of a node of the workflow itself.
    pub fn top_level(data_dir: &str, node: &str, attempt: u32) -> Result<Self, InvalidReference> {
        layout::Node::top_level(data_dir, node, attempt).map(Self::own)
    }

    /// Of a node inside another, whose output folder is `parent_output`.
    pub fn nested(parent_output: &str, node: &str, attempt: u32) -> Result<Self, InvalidReference> {
        layout::Node::nested(parent_output, node, attempt).map(Self::own)
    }

    /// Of an element of the array node that these are of; it reads the array's inputs.
    pub fn element(&self, index: u32, attempt: u32) -> Result<Self, InvalidReference> {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        Ok(Self {
            folders: self.folders.array_item(index, attempt)?,
            shared_inputs: Some(self.inputs()),
        })
    }

    fn own(folders: layout::Node) -> Self {
        Self {
            folders,
            shared_inputs: None,
        }
    }

    /// Where the attempt writes.
    pub fn output(&self) -> &str {
        &self.folders.output
    }

    /// `inputs.pb`.
    pub fn inputs(&self) -> String {
        match &self.shared_inputs {
            Some(shared) => shared.clone(),
            None => Self::file(self.folders.inputs()),
        }
    }

    /// `outputs.pb`.
    pub fn outputs(&self) -> String {
        Self::file(self.folders.outputs())
    }

    /// `error.pb`.
    pub fn error(&self) -> String {
        Self::file(self.folders.error())
    }

    /// `deck.html`.
    pub fn deck(&self) -> String {
        Self::file(self.folders.deck())
    }

    /// `futures.pb`.
    pub fn futures(&self) -> String {
        Self::file(self.folders.futures())
    }

    /// `dynamic_compiled.pb`.
    pub fn dynamic_closure(&self) -> String {
        Self::file(self.folders.dynamic_closure())
    }

    /// `task.pb`.
    pub fn task_template(&self) -> String {
        Self::file(self.folders.task_template())
    }

    /// A fixed name below a folder that is a reference is one too.
    fn file(uri: Result<String, InvalidReference>) -> String {
        uri.unwrap_or_default()
    }
}
