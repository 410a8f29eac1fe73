//! Conditions of random branches.

use std::collections::BTreeMap;

use rand::RngExt as _;

use super::{Maker, Scope, pick};
use crate::truth::{
    compute::produce,
    program::{Bind, Comparison, Condition, Operand},
    values::{Type, Value},
};

/// Conditions nest so deeply.
const DEEPEST: usize = 2;
const ALL: [Comparison; 6] = [
    Comparison::Eq,
    Comparison::Neq,
    Comparison::Gt,
    Comparison::Gte,
    Comparison::Lt,
    Comparison::Lte,
];

fn is_primitive(kind: &Type) -> bool {
    matches!(kind, Type::Int | Type::Float | Type::Text | Type::Flag)
}

impl Maker {
    /// A condition on inputs of a branch, which gets the inputs that it needs.
    pub(super) fn condition(
        &mut self,
        scope: &Scope,
        inputs: &mut BTreeMap<String, Bind>,
        depth: usize,
    ) -> Condition {
        if depth < DEEPEST && self.chance(0.3) {
            let left = Box::new(self.condition(scope, inputs, depth + 1));
            let right = Box::new(self.condition(scope, inputs, depth + 1));
            return if self.chance(0.5) {
                Condition::And(left, right)
            } else {
                Condition::Or(left, right)
            };
        }
        if self.chance(0.12)
            && let Some((bind, _)) = self.bind_plainly(scope, |_| true)
        {
            let asked = self.input(inputs, bind);
            let comparison = *pick(&mut self.random, &[Comparison::Eq, Comparison::Neq]);
            return self.either_way(comparison, asked, Operand::Constant(Value::None));
        }
        let (left, kind) = match self.bind_plainly(scope, is_primitive) {
            Some((bind, kind)) => (self.input(inputs, bind), kind),
            None => {
                let bind = Bind::Constant(Value::Int(self.random.random_range(0..10)));
                (self.input(inputs, bind), Type::Int)
            }
        };
        let comparison = if kind == Type::Flag {
            *pick(&mut self.random, &ALL[..2])
        } else {
            *pick(&mut self.random, &ALL)
        };
        let right = if self.chance(0.3) {
            let promises: Vec<_> = scope
                .all()
                .into_iter()
                .filter(|(_, found)| *found == kind)
                .map(|(promise, _)| promise)
                .collect();
            if promises.is_empty() {
                self.constant(&kind)
            } else {
                let promise = self.one_of(&promises, &kind);
                self.input(inputs, Bind::Promise(promise))
            }
        } else {
            self.constant(&kind)
        };
        self.either_way(comparison, left, right)
    }

    fn either_way(&mut self, comparison: Comparison, one: Operand, other: Operand) -> Condition {
        if self.chance(0.2) {
            Condition::Compare(comparison, other, one)
        } else {
            Condition::Compare(comparison, one, other)
        }
    }

    fn constant(&mut self, kind: &Type) -> Operand {
        let number = self.random.random_range(0..10);
        Operand::Constant(produce(kind, number))
    }

    /// An input of the branch; named as flytekit names them.
    fn input(&mut self, inputs: &mut BTreeMap<String, Bind>, bind: Bind) -> Operand {
        let name = self.name(".v");
        inputs.insert(name.clone(), bind);
        Operand::Input(name)
    }
}
