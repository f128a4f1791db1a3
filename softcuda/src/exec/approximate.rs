//! Approximate instructions at the limits of what NVIDIA's manual promises of them.
//!
//! A kernel that is to be perturbed is copied, with each approximate instruction inside an
//! [`Op::Approximate`], so that other launches pay nothing for this.

use crate::config::{Approximation, Config};
use crate::lower::Entry;
use crate::lower::op::{Bin32, HalfOp, Mode, Op, Round, Un32, Un64};

use super::alu64;
use super::engine::{hazy, settle};
use super::float::{self, f, flush_if, from_bf16, from_f16, is_nan};
use super::registers::{LANES, Registers};
use super::soft::{self, Format};
use super::{alu, half};

/// How far a result may be from the exact one.
#[derive(Clone, Copy)]
enum Error {
    /// As a part of the exact result: the binary logarithm.
    Relative(f64),
    /// The binary logarithm.
    Absolute(f64),
    /// In units of the last place of the exact result, rounded.
    Units(u32),
}

fn is_approximate(op: &Op) -> bool {
    match *op {
        Op::Un32 { f, .. } => matches!(
            f,
            Un32::FRcpApprox
                | Un32::FSqrtApprox
                | Un32::FRsqrtApprox
                | Un32::FEx2
                | Un32::FLg2
                | Un32::FSin
                | Un32::FCos
                | Un32::FTanh
        ),
        Op::Bin32 { f, .. } => matches!(f, Bin32::FDivApprox | Bin32::FDivFull),
        Op::Half { f, .. } => matches!(f, HalfOp::Ex2 | HalfOp::Tanh),
        Op::Un64 { f, m, .. } => matches!(f, Un64::DRcpApprox | Un64::DRsqrtApprox) && m.has(Mode::FTZ),
        _ => false,
    }
}

/// The same kernel, whose approximate instructions will be perturbed.
pub(super) fn perturbed(entry: &Entry) -> Entry {
    let mut copy = entry.clone();
    for inst in &mut copy.code {
        if is_approximate(&inst.op) {
            let op = std::mem::replace(&mut inst.op, Op::Nop);
            inst.op = Op::Approximate(Box::new(op));
        }
    }
    copy
}

/// The exact result of a function of one f32, and the error that the manual (PTX ISA 9.x) allows.
fn exact(function: Un32, x: f64) -> (f64, Error) {
    match function {
        Un32::FRcpApprox => (1.0 / x, Error::Units(1)),
        Un32::FSqrtApprox => (x.sqrt(), Error::Relative(-23.0)),
        Un32::FRsqrtApprox => (1.0 / x.sqrt(), Error::Relative(-22.9)),
        Un32::FEx2 => (x.exp2(), Error::Units(2)),
        Un32::FLg2 if x > 0.5 && x < 2.0 => (x.log2(), Error::Absolute(-22.0)),
        Un32::FLg2 => (x.log2(), Error::Relative(-22.0)),
        Un32::FTanh => (x.tanh(), Error::Relative(-11.0)),
        _ => {
            let near = x.abs() <= 2.0 * std::f64::consts::PI;
            // Beyond 100 pi nothing is promised; this is what is promised up to there.
            let error = Error::Absolute(if near { -20.5 } else { -14.7 });
            (if function == Un32::FSin { x.sin() } else { x.cos() }, error)
        }
    }
}

/// What a perturbation needs to know beside the numbers.
struct Perturbation {
    regime: Approximation,
    seed: u64,
}

impl Perturbation {
    /// A number between 0 and 1 that depends on the seed and the operands only: like hardware, equal
    /// operands give equal results.
    fn unit(&self, salt: u64, a: u64, b: u64) -> f64 {
        let mut z = self.seed.wrapping_add(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for word in [a, b] {
            z = (z ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 32;
        }
        (z >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The number of a format that this regime takes of those within the error of `exact`; the
    /// given result where there is none but infinities.
    fn choose(&self, format: Format, result: u64, (exact, error): (f64, Error), unit: f64, most: f64) -> u64 {
        let value = |bits: u64| f64::from_bits(soft::F64.from_number(format.unpack(bits), Round::Nearest));
        let number = |x: f64, round: Round| format.from_number(soft::F64.unpack(x.to_bits()), round);
        let around = |margin: f64| (exact - margin, exact + margin);
        let (low, high) = match error {
            Error::Relative(power) => around(exact.abs() * power.exp2()),
            Error::Absolute(power) => around(power.exp2()),
            Error::Units(count) => {
                let magnitude = number(value(result).abs(), Round::Nearest);
                let unit = value(magnitude + 1) - value(magnitude);
                let outward = value(magnitude) + f64::from(count) * unit;
                let inward = value(magnitude.saturating_sub(u64::from(count)));
                if value(result) < 0.0 { (-outward, -inward) } else { (inward, outward) }
            }
        };
        let (low, high) = (low.max(-most), high.min(most));
        let (least, largest) = (number(low, Round::Up), number(high, Round::Down));
        if value(least) > value(largest) {
            return result;
        }
        let chosen = match self.regime {
            Approximation::Nearest => result,
            Approximation::Upper => largest,
            Approximation::Lower => least,
            Approximation::Random => {
                let middle = number(low + unit * (high - low), Round::Nearest);
                match value(middle) {
                    x if x > value(largest) => largest,
                    x if x < value(least) => least,
                    _ => middle,
                }
            }
        };
        if value(chosen).is_finite() { chosen } else { result }
    }

    /// A function of one f32, whose best result is known. Operands that the manual's tables list
    /// (zeros, infinities, NaN) keep their exact results.
    fn single(&self, function: Un32, m: Mode, x: u32, result: u32) -> u32 {
        let ftz = m.has(Mode::FTZ);
        let x = flush_if(ftz, x);
        let (listed, done) = (f(x) == 0.0 || !f(x).is_finite(), f(result) == 0.0 && function != Un32::FLg2);
        if listed || done || !f(result).is_finite() {
            return result;
        }
        let limit = if matches!(function, Un32::FSin | Un32::FCos | Un32::FTanh) { 1.0 } else { f64::INFINITY };
        let unit = self.unit(function as u64, u64::from(x), 0);
        let chosen = self.choose(soft::F32, u64::from(result), exact(function, f64::from(f(x))), unit, limit);
        flush_if(ftz, chosen as u32)
    }

    /// `div.approx` and `div.full`.
    fn quotient(&self, function: Bin32, m: Mode, (a, b): (u32, u32), result: u32) -> u32 {
        let ftz = m.has(Mode::FTZ);
        let (a, b) = (flush_if(ftz, a), flush_if(ftz, b));
        let listed = [a, b].iter().any(|&x| f(x) == 0.0 || !f(x).is_finite());
        let beyond = function == Bin32::FDivApprox && !(0x0080_0000..=0x7e80_0000).contains(&(b & 0x7fff_ffff));
        if listed || beyond || f(result) == 0.0 || !f(result).is_finite() {
            return result;
        }
        let unit = self.unit(64, u64::from(a), u64::from(b));
        let error = (f64::from(f(a)) / f64::from(f(b)), Error::Units(2));
        flush_if(ftz, self.choose(soft::F32, u64::from(result), error, unit, f64::INFINITY) as u32)
    }

    /// A function of one f16 or bf16.
    fn narrow(&self, function: HalfOp, bf16: bool, m: Mode, x: u32, result: u32) -> u32 {
        let wide = if bf16 { from_bf16(x) } else { from_f16(x) };
        let subnormal = m.has(Mode::FTZ) && float::flush(wide) & 0x7fff_ffff == 0;
        let value = f64::from(f(wide));
        let (exact, error) = match (function, bf16) {
            (HalfOp::Ex2, false) => (value.exp2(), Error::Relative(-9.9)),
            (HalfOp::Ex2, true) => (value.exp2(), Error::Relative(-7.0)),
            (_, false) => (value.tanh(), Error::Absolute(-10.987)),
            (_, true) => (value.tanh(), Error::Absolute(-8.0)),
        };
        let special = result & 0x7fff == 0 || is_nan(wide) || !value.is_finite() || value == 0.0;
        let infinite = result & 0x7fff >= if bf16 { 0x7f80 } else { 0x7c00 };
        if special || subnormal || infinite {
            return result;
        }
        let format = if bf16 { soft::BF16 } else { soft::F16 };
        let limit = if function == HalfOp::Tanh { 1.0 } else { f64::INFINITY };
        let unit = self.unit(65 + u64::from(bf16) * 2 + u64::from(limit == 1.0), u64::from(x), 0);
        let chosen = self.choose(format, u64::from(result), (exact, error), unit, limit) as u32;
        let subnormal = if bf16 { chosen & 0x7f80 == 0 } else { false };
        if m.has(Mode::FTZ) && subnormal { chosen & 0x8000 } else { chosen }
    }

    /// The gross approximations in f64, of which nothing is promised: a unit of their 20 bits.
    fn gross(&self, x: u64, result: u64) -> u64 {
        let value = f64::from_bits(result);
        if !value.is_finite() || value == 0.0 || !f64::from_bits(x).is_finite() {
            return result;
        }
        let outward = match self.regime {
            Approximation::Nearest => return result,
            Approximation::Upper => value > 0.0,
            Approximation::Lower => value < 0.0,
            Approximation::Random => match (self.unit(70, x, 0) * 3.0) as u32 {
                0 => return result,
                choice => choice == 1,
            },
        };
        let moved = if outward { result.wrapping_add(1 << 32) } else { result.wrapping_sub(1 << 32) };
        if f64::from_bits(moved).is_normal() { moved } else { result }
    }
}

/// Executes an approximate instruction, perturbed.
pub(super) fn execute(r: &mut Registers, op: &Op, config: &Config, active: u32) {
    let p = Perturbation { regime: config.approximation, seed: config.seed };
    match *op {
        Op::Un32 { f, m, d, a } => {
            let hazy = hazy(r, a, active);
            settle(r, op, d, active, hazy);
            let x = *r.get32(a);
            let mut v = alu::un32(f, m, &x);
            for lane in 0..LANES {
                v[lane] = p.single(f, m, x[lane], v[lane]);
            }
            r.set32(d, &v, active);
        }
        Op::Bin32 { f, m, d, a, b } => {
            let hazy = hazy(r, a, active) | hazy(r, b, active);
            settle(r, op, d, active, hazy);
            let (x, y) = (*r.get32(a), *r.get32(b));
            let mut v = alu::bin32(f, m, &x, &y);
            for lane in 0..LANES {
                v[lane] = p.quotient(f, m, (x[lane], y[lane]), v[lane]);
            }
            r.set32(d, &v, active);
        }
        Op::Half { f, t, m, d, a, .. } => {
            let hazy = hazy(r, a, active);
            settle(r, op, d, active, hazy);
            let x = *r.get32(a);
            let mut v = half::half(f, t, m, &x, &x, &x);
            for lane in 0..LANES {
                let low = p.narrow(f, t.bf16(), m, x[lane] & 0xffff, v[lane] & 0xffff);
                let high = if t.packed() { p.narrow(f, t.bf16(), m, x[lane] >> 16, v[lane] >> 16) } else { 0 };
                v[lane] = low | high << 16;
            }
            r.set32(d, &v, active);
        }
        Op::Un64 { f, m, d, a } => {
            let hazy = hazy(r, a, active);
            settle(r, op, d, active, hazy);
            let x = *r.get64(a);
            let mut v = alu64::un64(f, m, &x);
            for lane in 0..LANES {
                v[lane] = p.gross(x[lane], v[lane]);
            }
            r.set64(d, &v, active);
        }
        _ => debug_assert!(false, "not an approximation: {op:?}"),
    }
}
