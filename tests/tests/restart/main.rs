//! The datapath without its agent, and the agent without its API server: connections live through death, absence and return, and only
//! `cleanup` ends them.

mod api_server;
mod cleanup;
mod kill;
mod site;
