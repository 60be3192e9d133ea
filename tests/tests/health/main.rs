//! What a node's agent tells load balancers, kubelets and Prometheus, over HTTP: S40, S41, S42.

mod api_server;
mod exposition;
mod http;
mod metrics;
mod proxy;
mod service_checks;
mod site;
