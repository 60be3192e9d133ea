//! An agent that comes back to the maps of the last one.

use lb_common::frontend::FrontendValue;
use lb_common::service::ServiceRecord;

use super::*;

fn services() -> [Case; 2] {
    [
        Case::new("web", "10.96.0.1", Protocol::Tcp)
            .external(&["192.0.2.1"], Some(5))
            .with(&[ep("10.1.0.1"), ep("10.1.0.2")]),
        Case::new("dns", "10.96.0.2", Protocol::Udp).with(&[ep("10.1.0.3")]),
    ]
}

fn restart(rig: &mut Rig) {
    rig.reconciler = Reconciler::restore(&rig.maps, GRACE, rig.now).unwrap();
}

#[test]
fn with_the_same_services_nothing_is_written() {
    let mut rig = Rig::new(ROOMY);
    let [web, dns] = services();
    rig.applied(&[&web, &dns]);
    let writes = rig.maps.writes;
    restart(&mut rig);
    rig.applied(&[&dns, &web]);
    rig.reconciler.inputs_complete(&mut rig.maps, rig.now);
    rig.pass(GRACE);
    rig.collect();
    assert_eq!(rig.maps.writes, writes);
}

/// S11.
#[test]
fn nothing_is_written_or_freed_before_all_inputs_are_in() {
    let mut rig = Rig::new(ROOMY);
    let [web, dns] = services();
    rig.applied(&[&web]);
    let writes = rig.maps.writes;
    restart(&mut rig);
    assert!(rig.apply(&[&dns]).services.is_empty());
    rig.pass(GRACE);
    rig.collect();
    assert_eq!(rig.maps.writes, writes);

    let report = rig.reconciler.inputs_complete(&mut rig.maps, rig.now);
    assert_eq!(report.services.len(), 2);
    assert_eq!(rig.leads_to("10.96.0.1"), None, "the Service that is gone");
    assert_eq!(
        rig.maps.frontends.len(),
        2,
        "the other's cluster IP, and its unknown ports"
    );
}

/// S37.
#[test]
fn an_endpoint_that_was_terminating_before_the_restart_is_known_to_be_gone_after_it() {
    let mut rig = Rig::new(ROOMY);
    let [web, _] = services();
    rig.applied(&[&web]);
    rig.applied(&[&web.clone().with(&[ep("10.1.0.1"), leaving("10.1.0.2", true)])]);
    let (index, before) = rig.backend("10.1.0.2");
    restart(&mut rig);
    rig.apply(&[&web.clone().with(&[ep("10.1.0.1")])]);
    rig.reconciler.inputs_complete(&mut rig.maps, rig.now);
    assert_eq!(rig.maps.backends[&index].generation, before.generation + 1);
}

#[test]
fn entries_that_lead_nowhere_are_replaced_or_removed() {
    let mut rig = Rig::new(ROOMY);
    let [web, dns] = services();
    rig.applied(&[&web, &dns]);
    // A frontend without a record, a record without a name whose slots are another's, a record out of bounds.
    let stray = frontend("203.0.113.9", 80);
    rig.maps.frontends.insert(stray, FrontendValue::new(&stray, 77));
    let web_record = rig.maps.records[&rig.maps.frontends[&frontend("10.96.0.1", 80)].index()];
    let bad = |service, offset| ServiceRecord {
        service,
        inside: lb_common::service::SlotRange { offset, len: 2 },
        ..ServiceRecord::default()
    };
    rig.maps.records.insert(50, bad(60, web_record.inside.offset));
    rig.maps.records.insert(51, bad(1, u32::MAX - 1));
    let key = frontend("10.96.0.1", 80);
    rig.maps.frontends.insert(key, FrontendValue::new(&key, 51));

    restart(&mut rig);
    rig.apply(&[&web, &dns]);
    rig.reconciler.inputs_complete(&mut rig.maps, rig.now);
    assert!(!rig.maps.frontends.contains_key(&stray));
    assert_eq!(rig.leads_to("10.96.0.1").unwrap(), ["10.1.0.1", "10.1.0.2"]);
    rig.remove(&web);
    rig.remove(&dns);
    for _ in 0..2 {
        rig.pass(GRACE);
        rig.collect();
    }
    assert_empty(&rig.maps, &rig.reconciler);
}
