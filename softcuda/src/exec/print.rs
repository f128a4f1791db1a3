//! Device-side `printf`.
//!
//! The text goes to a buffer in the device's [memory](crate::memory), as on hardware, from where
//! the host takes it.

use std::ffi::{CString, c_char, c_int};

use crate::fault::FaultKind;
use crate::lower::op::{NONE, Reg};
use crate::memory::DEFINED;

use super::access::lanes_of;
use super::state::{Problem, Step, Warp, Worker};
use super::{LOCAL_WINDOW, SHARED_WINDOW};

/// Longest text that is read from device memory, and widest field.
pub(super) const MAX_TEXT: u64 = 1024;

/// A conversion of a format: flags, width and precision as they stand there, and its letter.
struct Conversion<'f> {
    shape: &'f str,
    letter: char,
    /// Bytes of an integer.
    size: u64,
}

/// Takes a conversion apart; `rest` begins after its `%`. `%n`, which writes, is none in CUDA.
fn conversion(rest: &str) -> Option<(Conversion<'_>, &str)> {
    fn number(text: &str) -> &str {
        text.strip_prefix('*').unwrap_or_else(|| text.trim_start_matches(|c: char| c.is_ascii_digit()))
    }
    let after = number(rest.trim_start_matches(['-', '+', ' ', '#', '0']));
    let after = after.strip_prefix('.').map_or(after, number);
    let (shape, rest) = rest.split_at(rest.len() - after.len());
    let length = rest.len() - rest.trim_start_matches(['h', 'l', 'z', 'j', 't', 'L']).len();
    let (length, rest) = rest.split_at(length);
    let letter = rest.chars().next().filter(|letter| "diouxXcpeEfFgGaAs".contains(*letter))?;
    let size = if length.contains(['l', 'z', 'j', 't']) || letter == 'p' { 8 } else { 4 };
    Some((Conversion { shape, letter, size }, &rest[1..]))
}

/// A width or precision in digits, within what a field may have: the host makes room for all of it.
fn limited(shape: &str) -> String {
    let mut limited = String::new();
    for piece in shape.split_inclusive('.') {
        let flags = piece.len() - piece.trim_start_matches(['-', '+', ' ', '#', '0']).len();
        let (flags, number) = piece.split_at(flags);
        let digits = number.trim_end_matches('.');
        limited.push_str(flags);
        if !digits.is_empty() {
            limited.push_str(&digits.parse().unwrap_or(MAX_TEXT).min(MAX_TEXT).to_string());
        }
        if number.ends_with('.') {
            limited.push('.');
        }
    }
    limited
}

/// The arguments of one thread: a buffer in its memory, each argument at its natural alignment.
struct Arguments<'w, 'l> {
    worker: &'w Worker<'l>,
    warp: &'w Warp,
    lane: usize,
    address: u64,
    at: u64,
}

impl Arguments<'_, '_> {
    fn next(&mut self, size: u64) -> Step<u64> {
        self.at = self.at.next_multiple_of(size);
        let address = self.address.wrapping_add(self.at);
        self.at += size;
        let mut bytes = [0; 8];
        self.worker.peek(self.warp, self.lane, address, &mut bytes[..size as usize])?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// One argument by the host's `printf`.
fn formatted(conversion: &Conversion<'_>, shape: &str, value: u64, text: &str) -> String {
    let letter = conversion.letter;
    let integer = "diouxX".contains(letter);
    let Ok(format) = CString::new(format!("%{shape}{}{letter}", if integer { "ll" } else { "" })) else {
        return String::new();
    };
    let signed = "di".contains(letter);
    let value = match (conversion.size, signed) {
        (4, true) => i64::from(value as i32) as u64,
        (4, false) if integer => u64::from(value as u32),
        _ => value,
    };
    let text = CString::new(text).unwrap_or_default();
    let mut buffer = [0u8; 2 * MAX_TEXT as usize];
    let (out, room): (*mut c_char, _) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: the buffer has the room, the format has one conversion, and the argument its type.
    let length = unsafe {
        match letter {
            's' => libc::snprintf(out, room, format.as_ptr(), text.as_ptr()),
            'c' => libc::snprintf(out, room, format.as_ptr(), value as c_int),
            'p' => libc::snprintf(out, room, format.as_ptr(), value as *const u8),
            _ if integer => libc::snprintf(out, room, format.as_ptr(), value),
            _ => libc::snprintf(out, room, format.as_ptr(), f64::from_bits(value)),
        }
    };
    let length = usize::try_from(length).unwrap_or(0).min(room - 1);
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

impl Worker<'_> {
    /// Reads memory that must be defined at a generic address, outside of what counts as accesses.
    fn peek(&self, warp: &Warp, lane: usize, address: u64, out: &mut [u8]) -> Step {
        let refuse = |kind, detail| Err(Problem::new(kind, lane, address, detail));
        if address & !((1 << 48) - 1) == LOCAL_WINDOW {
            let size = self.launch.entry.local_bytes as usize;
            let offset = (address - LOCAL_WINDOW) as usize;
            if offset.saturating_add(out.len()) > size {
                return refuse(FaultKind::OutOfBounds, "`printf` reads beyond local memory".to_owned());
            }
            let start = lane * size + offset;
            if warp.local_defined[start..start + out.len()].iter().any(|&state| state != DEFINED) {
                return refuse(FaultKind::Uninitialised, "`printf` of uninitialised data".to_owned());
            }
            out.copy_from_slice(&warp.local[start..start + out.len()]);
            return Ok(());
        }
        if address & !((1 << 48) - 1) == SHARED_WINDOW {
            return refuse(FaultKind::Unsupported, "`printf` of texts in shared memory".to_owned());
        }
        let result = self.launch.memory.read(address, out);
        result.map_err(|fault| Problem::new(fault.kind, lane, address, fault.detail))
    }

    /// A text up to its zero.
    fn text_at(&self, warp: &Warp, lane: usize, address: u64) -> Step<String> {
        let mut bytes = Vec::new();
        let mut byte = [0];
        for offset in 0..MAX_TEXT {
            self.peek(warp, lane, address.wrapping_add(offset), &mut byte)?;
            if byte[0] == 0 {
                break;
            }
            bytes.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// `vprintf` by the lanes in `mask`, in order. The result is the number of arguments.
    #[cold]
    pub(super) fn print(&mut self, warp: &mut Warp, [format, arguments, d]: [Reg; 3], mask: u32) -> Step {
        let undefined = mask & !(warp.r.defined(format) & warp.r.defined(arguments));
        if undefined != 0 {
            let detail = "the address depends on uninitialised data".to_owned();
            return Err(Problem::new(FaultKind::Uninitialised, undefined.trailing_zeros() as usize, 0, detail));
        }
        let mut counts = [0; 32];
        for lane in lanes_of(mask) {
            let format = self.text_at(warp, lane, warp.r.get64(format)[lane])?;
            let address = warp.r.get64(arguments)[lane];
            let mut arguments = Arguments { worker: self, warp, lane, address, at: 0 };
            let (text, count) = self.render(&format, &mut arguments)?;
            self.launch.memory.print(text.as_bytes());
            counts[lane] = count;
        }
        if d != NONE {
            warp.r.set32(d, &counts, mask);
            warp.r.define(d, mask);
        }
        Ok(())
    }

    fn render(&self, format: &str, arguments: &mut Arguments<'_, '_>) -> Step<(String, u32)> {
        let (mut text, mut count) = (String::new(), 0);
        let mut rest = format;
        while let Some((before, after)) = rest.split_once('%') {
            text.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                text.push('%');
                rest = after;
                continue;
            }
            let Some((conversion, after)) = conversion(after) else {
                // What is no conversion stands for itself.
                text.push('%');
                rest = after;
                continue;
            };
            rest = after;
            // The host's `printf` gets widths that arguments give as digits.
            let mut shape = String::new();
            for (index, piece) in conversion.shape.split('*').enumerate() {
                if index > 0 {
                    let width = arguments.next(4)? as i32;
                    count += 1;
                    // A negative width is one with the flag `-`, a negative precision is none.
                    if width < 0 && shape.ends_with('.') {
                        shape.pop();
                    } else {
                        shape.push_str(&width.clamp(-(MAX_TEXT as i32), MAX_TEXT as i32).to_string());
                    }
                }
                shape.push_str(piece);
            }
            let size = if "eEfFgGaAsp".contains(conversion.letter) { 8 } else { conversion.size };
            let value = arguments.next(size)?;
            let pointed = match conversion.letter {
                's' if value == 0 => "(null)".to_owned(),
                's' => self.text_at(arguments.warp, arguments.lane, value)?,
                _ => String::new(),
            };
            text.push_str(&formatted(&conversion, &limited(&shape), value, &pointed));
            count += 1;
        }
        text.push_str(rest);
        Ok((text, count))
    }
}
