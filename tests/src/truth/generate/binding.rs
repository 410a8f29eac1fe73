//! Where inputs and outputs of random programs come from.

use std::collections::BTreeMap;

use rand::{RngExt as _, rngs::StdRng};

use super::{Maker, Types, pick};
use crate::truth::{
    compute::produce,
    program::{Bind, Promise, START, Step},
    values::{self, Type, Value},
};

/// Outputs that may be used.
#[derive(Clone)]
pub(super) struct Scope(Vec<(Promise, Type)>);

impl Scope {
    pub(super) fn of(inputs: &Types) -> Self {
        let mut scope = Self(Vec::new());
        scope.add(START, inputs);
        scope
    }

    pub(super) fn promise(node: &str, output: &str) -> Bind {
        Bind::Promise(whole(node, output))
    }

    pub(super) fn add(&mut self, node: &str, outputs: &Types) {
        for (output, kind) in outputs {
            self.0.push((whole(node, output), kind.clone()));
        }
        // Known even if it has none.
        if outputs.is_empty() {
            self.0.push((whole(node, ""), Type::Failure));
        }
    }

    /// The nodes, the start node left out.
    pub(super) fn nodes(&self) -> Vec<String> {
        let mut nodes: Vec<String> = self
            .0
            .iter()
            .map(|(promise, _)| promise.node.clone())
            .collect();
        nodes.dedup();
        nodes.retain(|node| node != START);
        nodes
    }

    /// Everything, and everything inside of it.
    pub(super) fn all(&self) -> Vec<(Promise, Type)> {
        let mut found = Vec::new();
        for (promise, kind) in self
            .0
            .iter()
            .filter(|(promise, _)| !promise.output.is_empty())
        {
            found.push((promise.clone(), kind.clone()));
            inside(promise, kind, &mut found);
        }
        found
    }

    /// Later outputs more often than earlier ones, so that things follow one another.
    pub(super) fn any(&self, random: &mut StdRng) -> Option<(Promise, Type)> {
        let all = self.all();
        if all.is_empty() {
            return None;
        }
        let one = random.random_range(0..all.len());
        let other = random.random_range(0..all.len());
        all.get(one.max(other)).cloned()
    }
}

fn whole(node: &str, output: &str) -> Promise {
    Promise {
        node: node.to_owned(),
        output: output.to_owned(),
        index: None,
        path: Vec::new(),
    }
}

/// What lies inside a value of this type.
fn inside(promise: &Promise, kind: &Type, found: &mut Vec<(Promise, Type)>) {
    let mut step = |step: Step, kind: &Type| {
        let mut deeper = promise.clone();
        deeper.path.push(step);
        found.push((deeper.clone(), kind.clone()));
        inside(&deeper, kind, found);
    };
    let fields = |fields: BTreeMap<&'static str, Type>| {
        fields
            .into_iter()
            .map(|(name, kind)| (Step::Key(name.into()), kind))
            .collect::<Vec<_>>()
    };
    let steps = match kind {
        Type::List(item) => vec![(Step::Index(1), (**item).clone())],
        Type::Map(item) => vec![(Step::Key("two".into()), (**item).clone())],
        Type::Record => fields(values::record()),
        Type::Structure => fields(values::structure()),
        Type::Int | Type::Float | Type::Text | Type::Flag | Type::Optional(_) | Type::Failure => {
            Vec::new()
        }
    };
    for (to, kind) in steps {
        step(to, &kind);
    }
}

impl Maker {
    /// Bindings for all inputs; one that may be left out sometimes is.
    pub(super) fn bind_all(&mut self, inputs: &Types, scope: &Scope) -> BTreeMap<String, Bind> {
        let mut binds = BTreeMap::new();
        for (name, kind) in inputs {
            if matches!(kind, Type::Optional(_) | Type::Failure) && self.chance(0.3) {
                continue;
            }
            binds.insert(name.clone(), self.bind(kind, scope));
        }
        binds
    }

    /// A binding for an input or output of this type.
    pub(super) fn bind(&mut self, kind: &Type, scope: &Scope) -> Bind {
        let promises: Vec<Promise> = scope
            .all()
            .into_iter()
            .filter(|(_, found)| found == kind)
            .map(|(promise, _)| promise)
            .collect();
        if !promises.is_empty() && self.chance(0.8) {
            return Bind::Promise(self.one_of(&promises, kind));
        }
        match kind {
            Type::List(item) => {
                let count = self.random.random_range(0..4);
                Bind::List((0..count).map(|_| self.bind(item, scope)).collect())
            }
            Type::Map(item) => Bind::Map(
                ["one", "two", "three"]
                    .map(|key| (key.to_owned(), self.bind(item, scope)))
                    .into(),
            ),
            Type::Optional(inner) => match self.random.random_range(0..4) {
                0 => Bind::Constant(Value::None),
                1 => Bind::Constant(Value::Union(Box::new(Value::None))),
                _ => self.bind(inner, scope),
            },
            Type::Failure => Bind::Constant(Value::None),
            Type::Int | Type::Float | Type::Text | Type::Flag | Type::Record | Type::Structure => {
                let number = self.random.random_range(0..1_000);
                Bind::Constant(produce(kind, number))
            }
        }
    }

    /// One of these promises; later ones more often. Where things fail, sometimes of an element that is not there.
    pub(super) fn one_of(&mut self, promises: &[Promise], kind: &Type) -> Promise {
        let (one, other) = (
            self.random.random_range(0..promises.len()),
            self.random.random_range(0..promises.len()),
        );
        let mut promise = promises[one.max(other)].clone();
        if let [.., Step::Index(index)] = promise.path.as_mut_slice() {
            *index = self.random.random_range(0..3);
            let absent = self.failing / 4.0;
            if self.random.random_bool(absent) {
                *index = 7;
            }
        }
        let of_a_list = matches!(promise.path.as_slice(), [Step::Index(_)]);
        if of_a_list && *kind == Type::Int && self.chance(0.3) {
            // The older way.
            let index = match promise.path.as_slice() {
                [Step::Index(index)] => usize::try_from(*index).ok(),
                _ => None,
            };
            promise.index = index;
            promise.path.clear();
        }
        promise
    }

    /// A binding of a branch: a promise, or a primitive.
    pub(super) fn bind_plainly(
        &mut self,
        scope: &Scope,
        fits: fn(&Type) -> bool,
    ) -> Option<(Bind, Type)> {
        let promises: Vec<(Promise, Type)> = scope
            .all()
            .into_iter()
            .filter(|(_, kind)| fits(kind))
            .collect();
        if promises.is_empty() {
            return None;
        }
        let (promise, kind) = pick(&mut self.random, &promises).clone();
        let promise = self.one_of(&[promise], &kind);
        Some((Bind::Promise(promise), kind))
    }
}
