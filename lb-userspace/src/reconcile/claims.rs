//! Who gets a frontend that several Services ask for (S46).
//!
//! Owns: the claims of all plans and their order. Must not know: the maps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::SystemTime;

use lb_common::frontend::FrontendKey;
use lb_common::port::Port;

use crate::model::ServiceKey;
use crate::plan::{RecordRole, ServicePlan, ServicePortKey};

/// A frontend that a Service asks for and another has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressConflict {
    /// The frontend.
    pub frontend: FrontendKey,
    /// The service port that goes without it.
    pub loser: ServicePortKey,
    /// The service port that has the better claim.
    pub winner: ServicePortKey,
}

impl fmt::Display for AddressConflict {
    /// What the loser's owner should know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.frontend.addr.to_ip();
        let port = Port(self.frontend.port).number();
        write!(
            f,
            "{address} port {port} belongs to Service {} already",
            self.winner
        )
    }
}

/// A claim; the smallest wins. Cluster IPs are never displaced; then the older Service wins, one that does not say when it
/// was created being the youngest; then the name decides, so that every node decides alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    is_displaceable: bool,
    is_undated: bool,
    created: Option<SystemTime>,
    port: ServicePortKey,
}

/// The claims of all Services.
#[derive(Debug, Default)]
pub(super) struct Claims {
    by_frontend: BTreeMap<FrontendKey, BTreeSet<Claim>>,
}

impl Claims {
    /// Replaces the claims of a Service's old plan by those of its new one. Returns the other Services whose frontends may be
    /// decided otherwise now.
    pub(super) fn replace(
        &mut self,
        service: &ServiceKey,
        old: Option<&ServicePlan>,
        new: Option<&ServicePlan>,
    ) -> BTreeSet<ServiceKey> {
        let (old, new) = (claims(old), claims(new));
        let mut touched = BTreeSet::new();
        for (frontend, claim) in old.difference(&new) {
            touched.extend(self.others(frontend, service));
            if let Some(claims) = self.by_frontend.get_mut(frontend) {
                claims.remove(claim);
                if claims.is_empty() {
                    self.by_frontend.remove(frontend);
                }
            }
        }
        for (frontend, claim) in new.difference(&old) {
            touched.extend(self.others(frontend, service));
            let claims = self.by_frontend.entry(*frontend).or_default();
            claims.insert(claim.clone());
        }
        touched
    }

    /// Who should have a frontend.
    pub(super) fn winner(&self, frontend: &FrontendKey) -> Option<&ServicePortKey> {
        let claims = self.by_frontend.get(frontend)?;
        claims.first().map(|claim| &claim.port)
    }

    /// Whether a service port asks for a frontend.
    pub(super) fn is_claimed_by(&self, frontend: &FrontendKey, port: &ServicePortKey) -> bool {
        let claims = self.by_frontend.get(frontend);
        claims.is_some_and(|claims| claims.iter().any(|claim| claim.port == *port))
    }

    /// The frontends a Service asks for in vain. Entries for unknown ports are alike whoever has them.
    pub(super) fn conflicts(&self, plan: &ServicePlan) -> Vec<AddressConflict> {
        let mut conflicts = Vec::new();
        for port in &plan.ports {
            for (frontend, role) in &port.frontends {
                match self.winner(frontend) {
                    Some(winner) if *winner != port.key && *role != RecordRole::UnknownPort => {
                        conflicts.push(AddressConflict {
                            frontend: *frontend,
                            loser: port.key.clone(),
                            winner: winner.clone(),
                        });
                    }
                    _ => {}
                }
            }
        }
        conflicts
    }

    fn others(&self, frontend: &FrontendKey, service: &ServiceKey) -> impl Iterator<Item = ServiceKey> {
        let claims = self.by_frontend.get(frontend).into_iter().flatten();
        claims
            .map(|claim| &claim.port.service)
            .filter(move |other| *other != service)
            .cloned()
    }
}

fn claims(plan: Option<&ServicePlan>) -> BTreeSet<(FrontendKey, Claim)> {
    let mut claims = BTreeSet::new();
    let Some(plan) = plan else {
        return claims;
    };
    for port in &plan.ports {
        for (frontend, role) in &port.frontends {
            let claim = Claim {
                is_displaceable: *role != RecordRole::Cluster,
                is_undated: plan.created.is_none(),
                created: plan.created,
                port: port.key.clone(),
            };
            claims.insert((*frontend, claim));
        }
    }
    claims
}
