//! The demo on the example manifests, with few requests: nothing may fail.

use clap::Parser;
use lab::demo::session::{self, Options};
use tokio_util::sync::CancellationToken;

fn check(arguments: &[&str]) {
    let options = Options::parse_from([&["demo", "--requests", "6"], arguments].concat());
    let figures = session::run(&options, &CancellationToken::new()).unwrap();
    assert!(figures.is_success(), "{}", figures.summary());
    assert!(figures.services >= 6, "{}", figures.summary());
    assert!(figures.requests > 100, "{}", figures.summary());
}

#[test]
fn the_example_shop_runs_without_a_failed_request() {
    check(&[]);
}

#[test]
fn the_example_shop_runs_from_an_api_server_too() {
    check(&["--source", "kube"]);
}
