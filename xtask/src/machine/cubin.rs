//! What the compiler noted in a cubin about each kernel: registers, stack, shared memory, where parameters lie.
//!
//! A cubin is a 64-bit little-endian ELF file. The notes are in `.nv.info` (for all kernels, by symbol) and
//! `.nv.info.NAME`: entries of a format byte, an attribute byte and a 16-bit value, which for format 4 is the
//! size of what follows.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

/// The notes on one kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub registers: u32,
    /// Bytes of local memory per thread: spilled registers and arrays that registers cannot hold.
    pub frame_bytes: u32,
    pub static_shared_bytes: u32,
    /// Where the parameters begin in constant bank 0, and how many bytes they take.
    pub parameters: (u32, u32),
}

const PARAMETER_BANK: u8 = 0x0a;
const FRAME_SIZE: u8 = 0x11;
const REGISTER_COUNT: u8 = 0x2f;
/// Format of entries with a payload.
const SIZED: u8 = 4;
/// Type of symbol-table sections.
const SYMBOLS: u32 = 2;

struct Section<'a> {
    name: &'a str,
    kind: u32,
    size: u64,
    /// Empty for sections that take no space in the file.
    bytes: &'a [u8],
    /// Index of the section that this one refers to.
    link: usize,
}

/// Kernels of a cubin by name.
///
/// # Errors
/// If it is not a cubin of the known form.
pub fn read(cubin: &[u8]) -> Result<BTreeMap<String, Resources>> {
    let sections = sections(cubin)?;
    let mut kernels: BTreeMap<String, Resources> = sections
        .iter()
        .filter_map(|s| Some((s.name.strip_prefix(".nv.info.")?.to_string(), Resources::default())))
        .collect();
    let symbols = sections.iter().find(|s| s.kind == SYMBOLS).context("no symbol table")?;
    let names = sections.get(symbols.link).context("no symbol names")?;
    let symbol = |index: u32| -> Result<&str> {
        let at = index as usize * 24;
        text(names.bytes, word(symbols.bytes, at)? as usize)
    };
    // From 9.0 on the section begins with what the driver takes of every block, which occupancy adds itself.
    let architecture = word(cubin, 48)? >> 8 & 0xff;
    let reserved = if architecture >= 90 { 1024 } else { 0 };
    for section in &sections {
        if section.name == ".nv.info" {
            for (attribute, payload) in entries(section.bytes)? {
                if attribute != REGISTER_COUNT && attribute != FRAME_SIZE {
                    continue;
                }
                // Subroutines have entries too; the kernel's own covers them.
                let Some(kernel) = kernels.get_mut(symbol(word(payload, 0)?)?) else { continue };
                let value = word(payload, 4)?;
                match attribute {
                    REGISTER_COUNT => kernel.registers = value,
                    _ => kernel.frame_bytes = value,
                }
            }
        } else if let Some(kernel) = section.name.strip_prefix(".nv.info.").and_then(|n| kernels.get_mut(n)) {
            for (attribute, payload) in entries(section.bytes)? {
                if attribute == PARAMETER_BANK {
                    let packed = word(payload, 4)?;
                    kernel.parameters = (packed & 0xffff, packed >> 16);
                }
            }
        } else if let Some(kernel) = section.name.strip_prefix(".nv.shared.").and_then(|n| kernels.get_mut(n)) {
            kernel.static_shared_bytes = (section.size as u32).saturating_sub(reserved);
        }
    }
    for (name, kernel) in &kernels {
        ensure!(kernel.registers > 0 && kernel.parameters.1 > 0, "{name}: no note on registers and parameters");
    }
    Ok(kernels)
}

fn sections(elf: &[u8]) -> Result<Vec<Section<'_>>> {
    ensure!(elf.starts_with(b"\x7fELF\x02\x01"), "not a 64-bit little-endian ELF file");
    let table = word(elf, 40)? as usize;
    let count = word(elf, 60)? as usize & 0xffff;
    let names_index = word(elf, 60)? as usize >> 16;
    let header = |i: usize, field: usize| word(elf, table + 64 * i + field);
    let names = header(names_index, 24)? as usize;
    (0..count)
        .map(|i| {
            let kind = header(i, 4)?;
            let (start, size) = (header(i, 24)? as usize, header(i, 32)? as usize);
            // Type 8: reserved at load time, nothing in the file.
            let bytes = if kind == 8 { &[] } else { elf.get(start..start + size).context("truncated ELF file")? };
            let name = text(elf, names + header(i, 0)? as usize)?;
            Ok(Section { name, kind, size: size as u64, bytes, link: header(i, 40)? as usize })
        })
        .collect()
}

fn entries(mut bytes: &[u8]) -> Result<Vec<(u8, &[u8])>> {
    let mut found = Vec::new();
    while bytes.len() >= 4 {
        let (format, attribute) = (bytes[0], bytes[1]);
        let size = if format == SIZED { usize::from(u16::from_le_bytes([bytes[2], bytes[3]])) } else { 0 };
        found.push((attribute, bytes.get(4..4 + size).context("truncated note")?));
        bytes = &bytes[4 + size..];
    }
    Ok(found)
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let four = bytes.get(at..at + 4).context("truncated ELF file")?;
    Ok(u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

fn text(bytes: &[u8], at: usize) -> Result<&str> {
    let rest = bytes.get(at..).context("truncated ELF file")?;
    let end = rest.iter().position(|&b| b == 0).context("unterminated name")?;
    Ok(std::str::from_utf8(&rest[..end])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_of_both_forms() {
        // A flag without payload, then the parameter bank: symbol 5, offset 0x210, 128 bytes.
        let bytes = [1, 0x36, 0, 0, 4, PARAMETER_BANK, 8, 0, 5, 0, 0, 0, 0x10, 2, 0x80, 0];
        let entries = entries(&bytes).expect("two notes");
        assert_eq!(entries.iter().map(|(a, p)| (*a, p.len())).collect::<Vec<_>>(), [(0x36, 0), (PARAMETER_BANK, 8)]);
        assert_eq!(word(entries[1].1, 4).expect("a word"), 0x0080_0210);
    }

    #[test]
    fn other_files_are_refused() {
        assert!(read(b"//\n// Generated by NVIDIA NVVM Compiler\n").is_err());
        assert!(read(b"\x7fELF\x02\x01").is_err());
    }
}
