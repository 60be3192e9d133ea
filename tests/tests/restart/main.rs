//! The datapath without its agent, and the agent without its API server: connections live through death, absence and return, and only
//! `cleanup` ends them. Connections that kube-proxy began live through the change to this agent.

mod api_server;
mod cleanup;
mod kill;
mod migration;
mod site;
