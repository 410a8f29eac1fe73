//! Bindings: where each input of a node comes from, and whether it may (spec 08 A8).

use flyte_idl::core::{
    Binding, BindingData, LiteralType, Node, OutputReference, Scalar, SimpleType, Variable,
    binding_data, literal_type::Type, primitive, promise_attribute, scalar,
};

use super::{
    Rules,
    edges::Direction,
    errors::{Ambiguity, Collector, CompileError, Mismatch},
    graph::{Graph, Outputs},
    interface::Variables,
};
use crate::{
    excerpt::excerpt,
    layout::START_NODE,
    promise::{attribute_type, parse_variable},
    types::{self, castable, simple_or_none},
};

/// The input of a node that is bound.
struct Slot<'a> {
    /// The node whose input is bound.
    id: &'a str,
    /// Name in its metadata; `None` without metadata.
    name: Option<&'a str>,
    /// The name of the input.
    parameter: &'a str,
}

/// What is known about an input before it is bound.
enum Expected<'a> {
    /// Its declared type.
    Type(&'a LiteralType),
    /// Nothing: the type comes from the binding (branches and approvals).
    Anything,
}

/// A value that was bound: its type, and the nodes that it comes from.
struct Bound {
    literal_type: LiteralType,
    providers: Vec<String>,
}

/// A union that a value is bound to.
struct Choice<'a> {
    declared: &'a LiteralType,
    variants: &'a [LiteralType],
}

impl Graph<'_, '_> {
    /// Checks the bindings of a node against its inputs and connects it to where they come from.
    pub(super) fn check_bindings(
        &mut self,
        node: &mut Node,
        inputs: &Variables,
        direction: Direction,
    ) {
        self.bindings(node, Some(inputs), direction);
    }

    /// Finds the types of a node's inputs from its bindings.
    pub(super) fn resolve_bindings(&mut self, node: &mut Node, direction: Direction) -> Variables {
        self.bindings(node, None, direction)
    }

    fn bindings(
        &mut self,
        node: &mut Node,
        declared: Option<&Variables>,
        direction: Direction,
    ) -> Variables {
        let name = node
            .metadata
            .as_ref()
            .map(|metadata| metadata.name.as_str());
        let id = node.id.as_str();
        let mut provided = Variables::new();
        let mut resolved = Variables::new();
        for Binding { var, binding } in &mut node.inputs {
            if self.errors.is_full() {
                break;
            }
            let variable = declared.and_then(|declared| declared.get(var));
            if declared.is_some() && variable.is_none() {
                self.errors
                    .add(CompileError::variable_name_not_found(id, var));
                continue;
            }
            let Some(data) = binding else {
                self.errors.add(CompileError::value_required(id, "Binding"));
                continue;
            };
            if provided.insert(var.clone(), Variable::default()).is_some() {
                self.errors
                    .add(CompileError::parameter_bound_more_than_once(id, var));
                continue;
            }
            let untyped = LiteralType::default();
            let expected = match variable {
                Some(variable) => Expected::Type(variable.r#type.as_ref().unwrap_or(&untyped)),
                None => Expected::Anything,
            };
            let mut errors = std::mem::take(&mut self.errors);
            let slot = Slot {
                id,
                name,
                parameter: var,
            };
            let bound = self.bind_value(&slot, data, &expected, &mut errors);
            self.errors = errors;
            let Some(bound) = bound else {
                continue;
            };
            for provider in &bound.providers {
                self.edges.add(provider, id, direction);
                if self.around != id {
                    self.edges.add_inward(provider, &self.around);
                }
            }
            resolved.insert(
                var.clone(),
                Variable {
                    r#type: Some(bound.literal_type),
                    ..Default::default()
                },
            );
        }
        for (name, variable) in declared.into_iter().flatten() {
            if !provided.contains_key(name) && !self.is_optional(variable) {
                self.errors.add(CompileError::parameter_not_bound(id, name));
            }
        }
        resolved
    }

    /// Whether an input need not be bound: its type is a union with NONE. The reference takes any variant that
    /// is not simple for NONE as well.
    fn is_optional(&self, variable: &Variable) -> bool {
        let Some(Type::UnionType(union)) = variable
            .r#type
            .as_ref()
            .and_then(|known| known.r#type.as_ref())
        else {
            return false;
        };
        union
            .variants
            .iter()
            .any(|variant| match self.shared.rules {
                Rules::Reference => simple_or_none(variant) == SimpleType::None as i32,
                Rules::Strict => types::is_simple(variant, SimpleType::None),
            })
    }

    fn bind_value(
        &self,
        slot: &Slot<'_>,
        data: &mut BindingData,
        expected: &Expected<'_>,
        errors: &mut Collector,
    ) -> Option<Bound> {
        let mark = errors.mark();
        if errors.is_full() || !self.work() {
            errors.add(CompileError::invalid_value(slot.id, slot.parameter));
            return None;
        }
        if let Expected::Type(declared) = expected
            && let Some(Type::UnionType(union)) = &declared.r#type
            && !matches!(
                data.value,
                Some(binding_data::Value::Scalar(_) | binding_data::Value::Promise(_))
            )
        {
            let choice = Choice {
                declared,
                variants: &union.variants,
            };
            return self.bind_variant(slot, data, &choice, errors);
        }
        let shape = match expected {
            Expected::Type(declared) => declared.r#type.as_ref(),
            Expected::Anything => None,
        };
        let mismatch = |errors: &mut Collector, received: &dyn Fn() -> String| {
            errors.add_with(|| {
                CompileError::mismatching_bindings(
                    slot.id,
                    slot.parameter,
                    &expected.text(),
                    &received(),
                )
            });
        };
        match (&mut data.value, shape) {
            (Some(binding_data::Value::Collection(list)), Some(Type::CollectionType(element))) => {
                let bound = self.bind_elements(slot, &mut list.bindings, element, errors);
                errors.clean_since(mark).then_some(bound)
            }
            (Some(binding_data::Value::Map(map)), Some(Type::MapValueType(value))) => {
                let bound = self.bind_elements(slot, map.bindings.values_mut(), value, errors);
                errors.clean_since(mark).then_some(bound)
            }
            (Some(binding_data::Value::Collection(list)), _) => {
                mismatch(errors, &|| excerpt(list));
                None
            }
            (Some(binding_data::Value::Map(map)), _) => {
                mismatch(errors, &|| excerpt(map));
                None
            }
            (Some(binding_data::Value::Scalar(scalar)), _) => {
                bind_scalar(slot, scalar, expected, errors)
            }
            (Some(binding_data::Value::Promise(promise)), _) => {
                self.bind_promise(slot, promise, expected, errors)
            }
            (Some(binding_data::Value::OffloadedMetadata(_)), _) => {
                mismatch(errors, &|| "*core.BindingData_OffloadedMetadata".to_owned());
                None
            }
            (None, _) => {
                mismatch(errors, &String::new);
                None
            }
        }
    }

    /// The elements of a list or map. One that fails does not stop the others.
    fn bind_elements<'d>(
        &self,
        slot: &Slot<'_>,
        elements: impl IntoIterator<Item = &'d mut BindingData>,
        element: &LiteralType,
        errors: &mut Collector,
    ) -> Bound {
        let mut providers = Vec::new();
        for data in elements {
            let expected = Expected::Type(element);
            if let Some(bound) = self.bind_value(slot, data, &expected, errors) {
                providers.extend(bound.providers);
            }
        }
        Bound {
            literal_type: LiteralType::default(),
            providers,
        }
    }

    /// Counts one value; `false` when a workflow tries more than is reasonable: elements times variants.
    fn work(&self) -> bool {
        match self.work_left.get().checked_sub(1) {
            Some(left) => {
                self.work_left.set(left);
                true
            }
            None => false,
        }
    }

    /// A collection or map for a union: exactly one variant must take it.
    fn bind_variant(
        &self,
        slot: &Slot<'_>,
        data: &mut BindingData,
        choice: &Choice<'_>,
        errors: &mut Collector,
    ) -> Option<Bound> {
        let mut taken: Option<(&LiteralType, Bound)> = None;
        for variant in choice.variants {
            let mut own = Collector::counting();
            let expected = Expected::Type(variant);
            let Some(bound) = self.bind_value(slot, data, &expected, &mut own) else {
                continue;
            };
            if let Some((first, _)) = taken {
                errors.add_with(|| {
                    let ambiguity = Ambiguity {
                        expected: excerpt(choice.declared),
                        received: excerpt(data),
                        first: excerpt(first),
                        second: excerpt(variant),
                    };
                    CompileError::ambiguous_union(slot.id, slot.parameter, &ambiguity)
                });
                return None;
            }
            taken = Some((variant, bound));
        }
        if taken.is_none() {
            errors.add_with(|| {
                CompileError::incompatible_union(
                    slot.id,
                    slot.parameter,
                    &excerpt(choice.declared),
                    &excerpt(data),
                )
            });
        }
        taken.map(|(_, bound)| bound)
    }

    fn bind_promise(
        &self,
        slot: &Slot<'_>,
        promise: &mut OutputReference,
        expected: &Expected<'_>,
        errors: &mut Collector,
    ) -> Option<Bound> {
        let node = if promise.node_id.is_empty() {
            START_NODE
        } else {
            &promise.node_id
        };
        let Some(provider) = self.providers.get(node) else {
            errors.add(CompileError::node_reference_not_found(node, node));
            errors.add(CompileError::parameter_not_bound(slot.id, slot.parameter));
            return None;
        };
        let known = |name: &str| match &provider.outputs {
            Outputs::Known(outputs) => outputs.contains_key(name),
            Outputs::Broken => false,
        };
        let Some(reference) = parse_variable(&promise.var, known) else {
            errors.add(CompileError::syntax_error(slot.id, &promise.var));
            return None;
        };
        let variable = match &provider.outputs {
            Outputs::Known(outputs) => {
                let known = outputs.get(reference.name);
                if known.is_none() {
                    errors.add(CompileError::variable_name_not_found(node, reference.name));
                }
                known
            }
            // Its aliases were reported where it was validated.
            Outputs::Broken => None,
        };
        let Some(variable) = variable else {
            errors.add(CompileError::parameter_not_bound(slot.id, slot.parameter));
            return None;
        };
        let label = |name: Option<&str>, variable: &str| match name {
            Some(name) => format!("{name}.{variable}"),
            None => variable.to_owned(),
        };
        let mismatch = |actual: Option<&LiteralType>| {
            CompileError::mismatching_variables(
                slot.id,
                &Mismatch {
                    up: label(provider.name.as_deref(), &promise.var),
                    up_type: types::text(actual),
                    down: label(slot.name, slot.parameter),
                    down_type: expected.mismatch_text(),
                },
            )
        };
        let untyped = LiteralType::default();
        let mut source = variable.r#type.as_ref().unwrap_or(&untyped);
        if reference.index.is_some() {
            match &source.r#type {
                Some(Type::CollectionType(element)) => source = element,
                _ => errors.add_with(|| mismatch(Some(source))),
            }
        }
        for attribute in &promise.attr_path {
            let key = match &attribute.value {
                Some(promise_attribute::Value::StringValue(key)) => key.as_str(),
                _ => "",
            };
            let Some(inner) = attribute_type(source, key) else {
                errors.add_with(|| {
                    CompileError::field_not_found(slot.id, &promise.var, &excerpt(source), key)
                });
                return None;
            };
            source = inner;
        }
        if let Expected::Type(declared) = expected
            && !castable(source, declared)
        {
            errors.add_with(|| mismatch(Some(source)));
            return None;
        }
        let bound = Bound {
            literal_type: source.clone(),
            providers: vec![node.to_owned()],
        };
        promise.node_id = node.to_owned();
        Some(bound)
    }
}

impl Expected<'_> {
    /// The type as binding errors show it. An input of no declared type stands as NONE.
    fn text(&self) -> String {
        match self {
            Self::Type(declared) => excerpt(*declared),
            Self::Anything => excerpt(&types::simple(SimpleType::None)),
        }
    }

    /// The type as type errors show it.
    fn mismatch_text(&self) -> String {
        match self {
            Self::Type(declared) => types::text(Some(declared)),
            Self::Anything => self.text(),
        }
    }
}

fn bind_scalar(
    slot: &Slot<'_>,
    scalar: &Scalar,
    expected: &Expected<'_>,
    errors: &mut Collector,
) -> Option<Bound> {
    let mark = errors.mark();
    let actual = types::of_scalar(scalar);
    match (&actual, expected) {
        (None, _) => errors.add(CompileError::unrecognized_value(slot.id, go_type(scalar))),
        (Some(actual), Expected::Type(declared)) if !castable(actual, declared) => {
            errors.add_with(|| {
                CompileError::mismatching_types(
                    slot.id,
                    slot.parameter,
                    &types::text(Some(actual)),
                    &types::text(Some(declared)),
                )
            });
        }
        _ => {}
    }
    if let Expected::Type(declared) = expected
        && let Some(Type::EnumType(choice)) = &declared.r#type
    {
        let value = string_value(scalar);
        if !choice.values.iter().any(|known| known == value) {
            errors.add_with(|| {
                CompileError::illegal_enum_value(slot.id, slot.parameter, value, &choice.values)
            });
        }
    }
    let literal_type = actual.filter(|_| errors.clean_since(mark))?;
    Some(Bound {
        literal_type,
        providers: Vec::new(),
    })
}

fn string_value(scalar: &Scalar) -> &str {
    match &scalar.value {
        Some(scalar::Value::Primitive(primitive)) => match &primitive.value {
            Some(primitive::Value::StringValue(value)) => value,
            _ => "",
        },
        _ => "",
    }
}

/// The Go type of a scalar whose type cannot be told; error messages show it.
fn go_type(scalar: &Scalar) -> &'static str {
    match &scalar.value {
        None => "<nil>",
        Some(scalar::Value::Primitive(_)) => "*core.Scalar_Primitive",
        Some(scalar::Value::Blob(_)) => "*core.Scalar_Blob",
        Some(scalar::Value::Binary(_)) => "*core.Scalar_Binary",
        Some(scalar::Value::Schema(_)) => "*core.Scalar_Schema",
        Some(scalar::Value::NoneType(_)) => "*core.Scalar_NoneType",
        Some(scalar::Value::Error(_)) => "*core.Scalar_Error",
        Some(scalar::Value::Generic(_)) => "*core.Scalar_Generic",
        Some(scalar::Value::StructuredDataset(_)) => "*core.Scalar_StructuredDataset",
        Some(scalar::Value::Union(_)) => "*core.Scalar_Union",
    }
}
