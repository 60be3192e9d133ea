//! `cargo xtask check-object`: what may and may not be in the kernel object.
//!
//! The kernel has no unwinder and no panic: one that is reachable is a packet path nobody meant. And a copy of
//! a few bytes that became a call of `memcpy` costs more than a map look-up. Both hide in source that looks
//! innocent, so the object is checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    kernel_object,
    object_file::{Contents, Function},
    step::{step, workspace},
    toolchain::Toolchain,
};

/// The product's object, by the name of its binary target.
const DATAPATH: &str = "lb-ebpf";

/// Subprograms that are meant to be ones, by a fragment of their path, each with its reason. Everything else
/// has to be inlined into its program.
const SUBPROGRAMS: &[(&str, &str)] = &[
    (
        "flow_",
        "global functions that write the flow table: walked once by the verifier instead of once for each path to them \
         (a million instructions otherwise); off the hot path",
    ),
    (
        "trace_",
        "the development trace: the verifier removes the calls while it is off",
    ),
];

/// Fragments of the paths that a reachable panic leaves behind.
const PANICS: &[&str] = &[
    "panicking",
    "rust_begin_unwind",
    "begin_panic",
    "panic_impl",
    "unwrap_failed",
    "slice_index_fail",
];

/// Builds the object, prints its programs as a table and checks it.
pub(crate) fn check_object(tools: &Toolchain) -> Result<()> {
    step("check of the kernel object", || {
        let executable = std::env::current_exe().context("xtask does not know its own path")?;
        let fallback = workspace().join("target");
        let target_dir = kernel_object::target_dir_of(&executable).unwrap_or(&fallback);
        let path = kernel_object::build(tools, workspace(), target_dir, DATAPATH)?;
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let contents = Contents::read(&bytes).with_context(|| path.display().to_string())?;
        eprint!("{}", table(&contents));
        let faults = faults(&contents, SUBPROGRAMS);
        if !faults.is_empty() {
            bail!("{}:\n  {}", path.display(), faults.join("\n  "));
        }
        Ok(())
    })
}

/// One line a program: what the verifier gets to see of it.
fn table(contents: &Contents) -> String {
    let by_name: BTreeMap<&str, &Function> = contents
        .functions
        .iter()
        .map(|function| (function.name.as_str(), function))
        .collect();
    let mut programs: Vec<&Function> = contents
        .functions
        .iter()
        .filter(|function| !function.section.starts_with(".text"))
        .collect();
    programs.sort_by_key(|program| (&program.section, &program.name));

    let mut table = format!(
        "    {:<24} {:<28} {:>12} {:>12}\n",
        "SECTION", "PROGRAM", "INSTRUCTIONS", "WITH CALLEES"
    );
    for program in programs {
        let total: usize = reached(program, &by_name)
            .iter()
            .map(|function| function.instructions)
            .sum();
        table += &format!(
            "    {:<24} {:<28} {:>12} {:>12}\n",
            program.section, program.name, program.instructions, total
        );
    }
    table
}

/// The function and everything it calls, each once.
fn reached<'a>(start: &'a Function, by_name: &BTreeMap<&str, &'a Function>) -> Vec<&'a Function> {
    let mut seen = BTreeSet::from([start.name.as_str()]);
    let mut reached = vec![start];
    let mut next = 0;
    while let Some(function) = reached.get(next) {
        let callees = function
            .calls
            .iter()
            .filter_map(|name| by_name.get(name.as_str()));
        let new: Vec<&Function> = callees
            .filter(|callee| seen.insert(&callee.name))
            .copied()
            .collect();
        reached.extend(new);
        next += 1;
    }
    reached
}

/// What is wrong with the object, one sentence each.
fn faults(contents: &Contents, subprograms: &[(&str, &str)]) -> Vec<String> {
    let mut faults = Vec::new();
    if contents.functions.is_empty() {
        faults.push("there is no program in the object".to_owned());
    }
    for name in &contents.undefined {
        faults.push(format!("{name} is used but not in the object"));
    }
    for function in &contents.functions {
        if PANICS.iter().any(|fragment| function.name.contains(fragment)) {
            faults.push(format!(
                "{} is in the object: a panic is reachable",
                function.name
            ));
        }
        for callee in &function.calls {
            if !subprograms.iter().any(|(fragment, _)| callee.contains(fragment)) {
                faults.push(format!(
                    "{} calls {callee}, which is not among the permitted subprograms (xtask/src/check_object.rs)",
                    function.name
                ));
            }
        }
    }
    for (fragment, _) in subprograms {
        if !contents
            .functions
            .iter()
            .any(|function| function.name.contains(fragment))
        {
            faults.push(format!(
                "the permitted subprogram {fragment} is not in the object any more: take it off the list"
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(section: &str, name: &str, instructions: usize, calls: &[&str]) -> Function {
        Function {
            name: name.to_owned(),
            section: section.to_owned(),
            instructions,
            calls: calls.iter().map(ToString::to_string).collect(),
        }
    }

    #[track_caller]
    fn check(functions: Vec<Function>, subprograms: &[(&str, &str)], expected: &[&str]) {
        let faults = faults(
            &Contents {
                functions,
                undefined: BTreeSet::new(),
            },
            subprograms,
        );
        assert_eq!(faults.len(), expected.len(), "{faults:?}");
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(
                fault.contains(expected),
                "{fault:?} does not mention {expected:?}"
            );
        }
    }

    #[test]
    fn a_program_without_calls_passes() {
        check(vec![function("xdp", "xvip", 100, &[])], &[], &[]);
    }

    #[test]
    fn an_empty_object_is_reported() {
        check(vec![], &[], &["no program"]);
    }

    #[test]
    fn a_copy_that_became_a_call_is_reported() {
        check(
            vec![
                function("xdp", "xvip", 100, &["memcpy"]),
                function(".text", "memcpy", 8, &[]),
            ],
            &[],
            &["xvip calls memcpy"],
        );
    }

    #[test]
    fn a_reachable_panic_is_reported_even_where_its_caller_is_permitted() {
        check(
            vec![
                function("xdp", "xvip", 100, &[]),
                function(".text", "core::panicking::panic_bounds_check", 2, &[]),
            ],
            &[],
            &["a panic is reachable"],
        );
    }

    #[test]
    fn a_permitted_subprogram_passes_and_has_to_exist() {
        let subprograms = &[("nat::rewrite", "measured")];
        check(
            vec![
                function("xdp", "xvip", 100, &["lb_ebpf::nat::rewrite"]),
                function(".text", "lb_ebpf::nat::rewrite", 8, &[]),
            ],
            subprograms,
            &[],
        );
        check(
            vec![function("xdp", "xvip", 100, &[])],
            subprograms,
            &["take it off the list"],
        );
    }

    #[test]
    fn a_subprogram_called_twice_is_counted_once() {
        let functions = vec![
            function("xdp", "xvip", 100, &["a", "b"]),
            function(".text", "a", 10, &["b"]),
            function(".text", "b", 1, &["a"]),
        ];
        let table = table(&Contents {
            functions,
            undefined: BTreeSet::new(),
        });
        let line = table.lines().find(|line| line.contains("xvip")).unwrap();
        assert_eq!(line.split_whitespace().last(), Some("111"));
    }
}
