//! What becomes of one object: defaults, validation, allocation, parsing, in this order.
//!
//! Owns: the order. Must not know: files and lines, earlier versions of the object.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;

use super::allocate::Allocator;
use super::world::{InForce, Value, mirrored};
use super::{defaults, mirror, validate};
use crate::model::parse::{self, Parsed};
use crate::model::{ObjectRef, Problem, Rejection};
use crate::source::Outcome;

/// An object that is accepted or passed over.
pub(super) struct Verdict {
    pub(super) value: Value,
    pub(super) outcome: Outcome,
    pub(super) warnings: Vec<Problem>,
}

/// A Service, admitted by the allocator; an error is everything that is wrong with it.
pub(super) fn service(
    mut object: v1::Service,
    allocator: &mut Allocator,
    now: i64,
) -> Result<Verdict, Vec<Problem>> {
    defaults::service(&mut object);
    let problems = validate::service(&object);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut warnings = allocator.admit(&mut object, now)?;
    let (service, outcome) = match parse::service(&object).map_err(problems_of)? {
        Parsed::Accepted {
            value,
            warnings: more,
        } => {
            warnings.extend(more);
            (Some(Box::new(value.clone())), Outcome::Service(Box::new(value)))
        }
        Parsed::Skipped(skip) => (None, Outcome::Skipped(skip.to_string())),
    };
    Ok(Verdict {
        value: Value::Service {
            object: Box::new(object),
            service,
        },
        outcome,
        warnings,
    })
}

/// An EndpointSlice.
pub(super) fn endpoint_slice(mut object: discovery::EndpointSlice) -> Result<Verdict, Vec<Problem>> {
    defaults::endpoint_slice(&mut object);
    let problems = validate::endpoint_slice(&object);
    if !problems.is_empty() {
        return Err(problems);
    }
    let (slice, outcome, warnings) = match parse::endpoint_slice(&object).map_err(problems_of)? {
        Parsed::Accepted { value, warnings } => {
            (Some(value.clone()), Outcome::EndpointSlice(value), warnings)
        }
        Parsed::Skipped(skip) => (None, Outcome::Skipped(skip.to_string()), Vec::new()),
    };
    Ok(Verdict {
        value: Value::EndpointSlice {
            object: Box::new(object),
            slice,
        },
        outcome,
        warnings,
    })
}

/// A Node.
pub(super) fn node(object: &v1::Node) -> Result<Verdict, Vec<Problem>> {
    match parse::node(object).map_err(problems_of)? {
        Parsed::Accepted { value, warnings } => Ok(Verdict {
            value: Value::Node {
                object: Box::new(object.clone()),
                node: value.clone(),
            },
            outcome: Outcome::Node(value),
            warnings,
        }),
        Parsed::Skipped(skip) => Err(vec![Problem::new("", skip.to_string())]),
    }
}

fn problems_of(rejection: Rejection) -> Vec<Problem> {
    rejection.problems
}

/// An Endpoints object, beside the objects accepted so far.
pub(super) fn endpoints(
    mut object: v1::Endpoints,
    accepted: &BTreeMap<ObjectRef, InForce>,
) -> Result<Verdict, Vec<Problem>> {
    defaults::endpoints(&mut object);
    let problems = validate::endpoints(&object);
    if !problems.is_empty() {
        return Err(problems);
    }
    let (outcome, warnings) = match mirrored(&object, accepted) {
        Ok((service, slices)) => (
            Outcome::Endpoints(service, slices),
            mirror::warning(&object).into_iter().collect(),
        ),
        Err(reason) => (Outcome::Skipped(reason), Vec::new()),
    };
    Ok(Verdict {
        value: Value::Endpoints(Box::new(object)),
        outcome,
        warnings,
    })
}
