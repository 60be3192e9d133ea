//! Reads a kernel object: its functions, how long they are and what they call.
//!
//! Knows ELF and the encoding of BPF's call instruction; judges nothing.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex, SectionKind,
    SymbolKind,
};

/// Every BPF instruction takes eight bytes; the one with a 64-bit immediate takes two slots.
const INSTRUCTION: usize = 8;
/// `BPF_JMP | BPF_CALL`.
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_CALL`: the source register's value that makes a call one of a subprogram, not of a helper.
const PSEUDO_CALL: u8 = 1;

/// A function of the object: a program's entry point or a subprogram.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// The ELF section: a program's says where it attaches; subprograms are in `.text` and its like.
    pub(crate) section: String,
    /// In instruction slots, the kernel's unit.
    pub(crate) instructions: usize,
    /// Names of the subprograms it calls.
    pub(crate) calls: BTreeSet<String>,
}

/// The object's functions and the names it leaves open.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) functions: Vec<Function>,
    pub(crate) undefined: BTreeSet<String>,
}

impl Contents {
    /// Parses an ELF object as bpf-linker writes it.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        let elf = object::File::parse(bytes).context("not an ELF object")?;
        let symbols = Symbols::of(&elf)?;
        let mut functions = Vec::new();
        for section in elf
            .sections()
            .filter(|section| section.kind() == SectionKind::Text)
        {
            let data = section.data().context("a section cannot be read")?;
            let relocations: BTreeMap<u64, RelocationTarget> = section
                .relocations()
                .map(|(offset, relocation)| (offset, relocation.target()))
                .collect();
            let code = Code {
                elf: &elf,
                symbols: &symbols,
                section: section.index(),
                data,
                relocations,
            };
            for (&(index, start), (name, size)) in &symbols.functions {
                if index == section.index().0 {
                    let end = start + size;
                    functions.push(Function {
                        name: name.clone(),
                        section: section.name().context("a section has no name")?.to_owned(),
                        instructions: usize::try_from(*size)? / INSTRUCTION,
                        calls: code.calls(start, end)?,
                    });
                }
            }
        }
        Ok(Self {
            functions,
            undefined: symbols.undefined,
        })
    }
}

/// Functions by place, and what is used but not defined.
struct Symbols {
    /// By section number and offset: the name and the length in bytes.
    functions: BTreeMap<(usize, u64), (String, u64)>,
    undefined: BTreeSet<String>,
}

impl Symbols {
    fn of(elf: &object::File<'_>) -> Result<Self> {
        let mut symbols = Self {
            functions: BTreeMap::new(),
            undefined: BTreeSet::new(),
        };
        for symbol in elf.symbols() {
            let name = readable(symbol.name().context("a symbol has no name")?);
            match symbol.section_index() {
                Some(section) if symbol.kind() == SymbolKind::Text && symbol.size() > 0 => {
                    symbols
                        .functions
                        .insert((section.0, symbol.address()), (name, symbol.size()));
                }
                None if symbol.is_undefined() && !name.is_empty() => {
                    symbols.undefined.insert(name);
                }
                _ => {}
            }
        }
        Ok(symbols)
    }
}

/// One section's instructions.
struct Code<'a> {
    elf: &'a object::File<'a>,
    symbols: &'a Symbols,
    section: SectionIndex,
    data: &'a [u8],
    relocations: BTreeMap<u64, RelocationTarget>,
}

impl Code<'_> {
    /// The subprograms that the instructions in `start..end` call.
    fn calls(&self, start: u64, end: u64) -> Result<BTreeSet<String>> {
        let range = usize::try_from(start)?..usize::try_from(end)?;
        let code = self
            .data
            .get(range)
            .context("a function reaches past its section")?;
        let mut calls = BTreeSet::new();
        for (offset, instruction) in (start..).step_by(INSTRUCTION).zip(code.chunks_exact(INSTRUCTION)) {
            let &[opcode, registers, _, _, ref immediate @ ..] = instruction else {
                continue;
            };
            if opcode == CALL && registers >> 4 == PSEUDO_CALL {
                let immediate = i32::from_le_bytes(immediate.try_into()?);
                calls.insert(self.callee(offset, immediate)?);
            }
        }
        Ok(calls)
    }

    /// A call's target: the relocation's symbol; without one, so many instructions after the next.
    fn callee(&self, offset: u64, immediate: i32) -> Result<String> {
        let distance = (i64::from(immediate) + 1) * i64::try_from(INSTRUCTION)?;
        let (section, address) = match self.relocations.get(&offset) {
            None => (self.section, offset.checked_add_signed(distance)),
            Some(RelocationTarget::Symbol(index)) => {
                let symbol = self
                    .elf
                    .symbol_by_index(*index)
                    .context("a relocation names no symbol")?;
                match symbol.section_index() {
                    // Relative to a section: the immediate says where in it.
                    Some(section) if symbol.kind() == SymbolKind::Section => {
                        (section, symbol.address().checked_add_signed(distance))
                    }
                    Some(section) => (section, Some(symbol.address())),
                    None => return Ok(readable(symbol.name().unwrap_or_default())),
                }
            }
            Some(target) => bail!("a call at {offset:#x} is relocated against {target:?}"),
        };
        let address = address.context("a call leaves its section")?;
        let (name, _) = self
            .symbols
            .functions
            .get(&(section.0, address))
            .with_context(|| format!("the call at {offset:#x} goes to no function"))?;
        Ok(name.clone())
    }
}

/// A symbol without its mangling and hash.
fn readable(symbol: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(symbol))
}

#[cfg(test)]
mod tests {
    use object::{
        Architecture, BinaryFormat, Endianness, SymbolFlags, SymbolScope,
        write::{Object, Relocation, RelocationFlags, SectionId, Symbol, SymbolId, SymbolSection},
    };

    use super::*;

    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];
    const HELPER_CALL: [u8; 8] = [CALL, 0, 0, 0, 1, 0, 0, 0];

    fn subprogram_call(immediate: i32) -> [u8; 8] {
        let [a, b, c, d] = immediate.to_le_bytes();
        [CALL, PSEUDO_CALL << 4, 0, 0, a, b, c, d]
    }

    fn empty() -> Object<'static> {
        Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little)
    }

    fn section(elf: &mut Object<'_>, name: &str, code: &[[u8; 8]]) -> SectionId {
        let section = elf.add_section(Vec::new(), name.into(), SectionKind::Text);
        elf.append_section_data(section, &code.concat(), 8);
        section
    }

    fn function(elf: &mut Object<'_>, name: &str, place: Option<(SectionId, u64, u64)>) -> SymbolId {
        let (section, value, size) = match place {
            Some((section, first, count)) => (SymbolSection::Section(section), first * 8, count * 8),
            None => (SymbolSection::Undefined, 0, 0),
        };
        elf.add_symbol(Symbol {
            name: name.into(),
            value,
            size,
            kind: SymbolKind::Text,
            scope: SymbolScope::Dynamic,
            weak: false,
            section,
            flags: SymbolFlags::None,
        })
    }

    fn relocate(elf: &mut Object<'_>, section: SectionId, instruction: u64, symbol: SymbolId) {
        let flags = RelocationFlags::Elf {
            r_type: object::elf::R_BPF_64_32,
        };
        let relocation = Relocation {
            offset: instruction * 8,
            symbol,
            addend: 0,
            flags,
        };
        elf.add_relocation(section, relocation).unwrap();
    }

    #[track_caller]
    fn check(elf: &Object<'_>, expected: &[(&str, &str, usize, &[&str])]) -> Contents {
        let contents = Contents::read(&elf.write().unwrap()).unwrap();
        let found: Vec<_> = contents
            .functions
            .iter()
            .map(|function| {
                let calls: Vec<&str> = function.calls.iter().map(String::as_str).collect();
                (
                    function.section.as_str(),
                    function.name.as_str(),
                    function.instructions,
                    calls,
                )
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|&(section, name, count, calls)| (section, name, count, calls.to_vec()))
            .collect();
        assert_eq!(found, expected);
        contents
    }

    #[test]
    fn helpers_are_not_subprograms() {
        let mut elf = empty();
        let xdp = section(&mut elf, "xdp", &[HELPER_CALL, EXIT]);
        function(&mut elf, "entry", Some((xdp, 0, 2)));
        check(&elf, &[("xdp", "entry", 2, &[])]);
    }

    #[test]
    fn a_call_within_a_section_is_resolved_by_its_distance() {
        let mut elf = empty();
        let text = section(&mut elf, ".text", &[EXIT, subprogram_call(-2), EXIT]);
        function(&mut elf, "first", Some((text, 0, 1)));
        function(&mut elf, "second", Some((text, 1, 2)));
        check(
            &elf,
            &[(".text", "first", 1, &[]), (".text", "second", 2, &["first"])],
        );
    }

    #[test]
    fn a_call_relocated_against_a_section_is_resolved_by_its_place_there() {
        let mut elf = empty();
        let text = section(&mut elf, ".text", &[EXIT, EXIT]);
        function(&mut elf, "first", Some((text, 0, 1)));
        function(&mut elf, "second", Some((text, 1, 1)));
        let xdp = section(&mut elf, "xdp", &[subprogram_call(0), EXIT]);
        function(&mut elf, "entry", Some((xdp, 0, 2)));
        let symbol = elf.section_symbol(text);
        relocate(&mut elf, xdp, 0, symbol);
        check(
            &elf,
            &[
                (".text", "first", 1, &[]),
                (".text", "second", 1, &[]),
                ("xdp", "entry", 2, &["second"]),
            ],
        );
    }

    #[test]
    fn a_call_of_something_undefined_is_named() {
        let mut elf = empty();
        let xdp = section(&mut elf, "xdp", &[subprogram_call(-1), EXIT]);
        function(&mut elf, "entry", Some((xdp, 0, 2)));
        let memcpy = function(&mut elf, "memcpy", None);
        relocate(&mut elf, xdp, 0, memcpy);
        let contents = check(&elf, &[("xdp", "entry", 2, &["memcpy"])]);
        assert!(contents.undefined.contains("memcpy"));
    }
}
