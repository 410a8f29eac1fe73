//! Why a binding has no value, in the words of the reference (spec 04 §10.1).

/// A binding cannot be resolved, whatever is retried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("BindingResolutionError: Error binding Var [wf].[{variable}]")]
pub struct ResolveError {
    /// The input that is bound.
    pub variable: String,
    /// What is wrong with what it is bound to.
    #[source]
    pub cause: PromiseError,
}

impl ResolveError {
    /// What the failure of `node`, whose binding it is, says: the words of the reference.
    pub fn of_node(&self, node: &str) -> String {
        format!("failed at Node[{node}]. {self}, caused by: {}", self.cause)
    }
}

/// A promise has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed at Node[{node}]. {fault}")]
pub struct PromiseError {
    /// The id of the node that the promise refers to.
    pub node: String,
    /// Why it has none.
    pub fault: PromiseFault,
}

/// Why a promise has no value: code and text of the reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromiseFault {
    /// The promise names a node that is not in the graph. The reference puts this text where no verb prints it.
    #[error("IllegalStateError: Undefined node in Workflow")]
    NoNode,
    /// The file of the outputs is not there or is not one.
    #[error(
        "CausedByError: Failed to GetPrevious data from outputDir [{uri}], caused by: {unreadable}"
    )]
    Unreadable {
        /// Where the node was to write its outputs.
        uri: String,
        /// What is there.
        unreadable: Unreadable,
    },
    /// The node wrote no outputs at all, to this URI.
    #[error("OutputsNotFoundError: Outputs not found at [{0}]")]
    NoOutputs(String),
    /// The node wrote others: `[node].[variable]` or `[node[index].variable]`.
    #[error("OutputsNotFoundError: Failed to find {0}")]
    NoOutput(String),
    /// `[index].variable` of an output that is not there.
    #[error(
        "BadSpecificationError: Output of array tasks is expected to be a single literal map entry named 'array' of \
         type LiteralCollection."
    )]
    NoCollection,
    /// `[index].variable` of an output of this type.
    #[error(
        "BadSpecificationError: Output of array tasks of key 'array' is of type [{0}]. LiteralCollection is expected."
    )]
    NotCollection(&'static str),
    /// A promise names an attribute that the value does not have.
    #[error("PromiseAttributeResolveError: {0}")]
    Attribute(String),
    /// An attribute is larger than any integer literal.
    #[error("InvalidPrimitiveType: uint64 value is too large to be converted to int64")]
    TooLarge,
}

/// A file that was to hold literals does not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// There is none.
    #[error("path:{0}: not found")]
    Missing(String),
    /// It holds something else.
    #[error("unmarshall: {uri}: {why}")]
    Malformed {
        /// The file.
        uri: String,
        /// What the decoder says.
        why: String,
    },
}
