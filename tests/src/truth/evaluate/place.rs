//! Where nodes are: what their unique ids and folders are made of (spec 04 §10).

use flyte_core::unique_id::{self, Parent};

/// Where a graph's nodes have their ids and folders.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The node around it.
    pub(super) parent: Option<Parent>,
    /// The folder around it.
    pub(super) folder: String,
    /// The nodes around it, by unique id.
    pub(super) around: Vec<String>,
}

impl Place {
    pub(super) fn spot(&self, id: &str) -> Spot {
        Spot {
            place: self.clone(),
            id: id.to_owned(),
        }
    }
}

/// A node in its graph.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) place: Place,
    pub(super) id: String,
}

impl Spot {
    pub(super) fn unique_id(&self) -> String {
        unique_id::node(self.place.parent.as_ref(), &self.id)
    }

    /// The folder of the outputs of an attempt.
    pub(super) fn folder(&self, attempt: u32) -> String {
        match self.place.parent {
            None => format!("{}/data/{attempt}", self.id),
            Some(_) => format!("{}/{}/{attempt}", self.place.folder, self.id),
        }
    }

    /// Where nodes inside of it are; what has nodes inside is not tried again.
    pub(super) fn inside(&self) -> Place {
        let mut around = self.place.around.clone();
        around.push(self.unique_id());
        Place {
            parent: Some(Parent {
                unique_id: self.unique_id(),
                attempt: 0,
            }),
            folder: self.folder(0),
            around,
        }
    }
}
