//! What a mutant changes: one instruction, as a careless hand or a wrong optimisation might.

use super::ptx::Instruction;

/// Classes of changes. The sample takes as many of each as it can, so that the rare ones are all in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A barrier, wait or fence is gone.
    Synchronisation,
    /// A store is gone.
    Store,
    /// A guard is negated, or its instruction always or never runs.
    Guard,
    /// A comparison is another.
    Comparison,
    /// An integer constant: bound, mask, shift amount.
    Constant,
    /// A floating-point constant.
    Float,
    /// The offset of an address.
    Offset,
    /// Operands change places.
    Swap,
    /// The operation is another.
    Operation,
    /// Rounding of the result, or what NaN becomes.
    Modifier,
    /// Elements of a vector change places.
    Vector,
}

/// One change of one instruction.
pub struct Change {
    /// Its class.
    pub kind: Kind,
    /// What is done, without the names of registers: part of what survivors are known by.
    pub what: String,
    /// The new line; empty if the instruction is gone.
    pub text: String,
}

/// Every change of an instruction.
pub fn changes(instruction: &Instruction) -> Vec<Change> {
    let mut list = List { instruction, changes: Vec::new() };
    list.removal();
    list.guard();
    list.comparison();
    list.constants();
    list.offsets();
    list.swaps();
    list.operation();
    list.modifiers();
    list.vectors();
    list.changes
}

struct List<'a> {
    instruction: &'a Instruction,
    changes: Vec<Change>,
}

impl List<'_> {
    fn push(&mut self, kind: Kind, what: impl Into<String>, change: impl FnOnce(&mut Instruction)) {
        let mut changed = self.instruction.clone();
        change(&mut changed);
        let text = changed.to_string();
        if text != self.instruction.to_string() {
            self.changes.push(Change { kind, what: what.into(), text });
        }
    }

    fn remove(&mut self, kind: Kind) {
        self.changes.push(Change { kind, what: "removed".into(), text: String::new() });
    }

    fn opcode(&mut self, kind: Kind, from: &str, to: &str) {
        let opcode = self.instruction.opcode.replacen(from, to, 1);
        self.push(kind, format!("{from} becomes {to}"), |i| i.opcode = opcode);
    }

    fn removal(&mut self) {
        let opcode = &self.instruction.opcode;
        let waits = ["bar", "barrier", "membar", "fence", "griddepcontrol"].contains(&self.instruction.name())
            || opcode.contains("wait")
            || opcode.starts_with("cp.async");
        if waits {
            self.remove(Kind::Synchronisation);
        } else if ["st", "red"].contains(&self.instruction.name()) {
            self.remove(Kind::Store);
        }
    }

    fn guard(&mut self) {
        let Some(guard) = self.instruction.guard.clone() else {
            if self.instruction.name() == "bra" {
                self.remove(Kind::Guard);
            }
            return;
        };
        let negated = match guard.strip_prefix("@!") {
            Some(register) => format!("@{register}"),
            None => guard.replacen('@', "@!", 1),
        };
        self.push(Kind::Guard, "guard negated", |i| i.guard = Some(negated));
        self.push(Kind::Guard, "always runs", |i| i.guard = None);
        self.changes.push(Change { kind: Kind::Guard, what: "never runs".into(), text: String::new() });
    }

    fn comparison(&mut self) {
        const OTHERS: [(&str, &str); 16] = [
            (".lt.", ".le."),
            (".le.", ".lt."),
            (".gt.", ".ge."),
            (".ge.", ".gt."),
            (".eq.", ".ne."),
            (".ne.", ".eq."),
            (".ltu.", ".leu."),
            (".leu.", ".ltu."),
            (".gtu.", ".geu."),
            (".geu.", ".gtu."),
            (".equ.", ".neu."),
            (".neu.", ".equ."),
            (".num.", ".nan."),
            (".nan.", ".num."),
            (".lo.", ".ls."),
            (".hi.", ".hs."),
        ];
        if self.instruction.name() != "setp" {
            return;
        }
        let opcode = self.instruction.opcode.clone();
        for (from, to) in OTHERS.into_iter().filter(|(from, _)| opcode.contains(from)) {
            self.opcode(Kind::Comparison, from, to);
        }
        // What NaN compares like.
        for order in [".lt", ".le", ".gt", ".ge"].into_iter().filter(|_| opcode.contains(".f32")) {
            if opcode.contains(&format!("{order}u.")) {
                self.opcode(Kind::Comparison, &format!("{order}u."), &format!("{order}."));
            } else if opcode.contains(&format!("{order}.")) {
                self.opcode(Kind::Comparison, &format!("{order}."), &format!("{order}u."));
            }
        }
    }

    fn constants(&mut self) {
        // The target of a branch, the number of a barrier and what is no number are no constants.
        if ["bra", "bar"].contains(&self.instruction.name()) {
            return;
        }
        for k in 0..self.instruction.operands.len() {
            let operand = self.instruction.operands[k].clone();
            if let Some(bits) = operand.strip_prefix("0f").and_then(|hex| u32::from_str_radix(hex, 16).ok()) {
                let scaled = match bits & 0x7fff_ffff {
                    0 => 1f32.to_bits(),
                    finite if finite < 0x7f00_0000 => bits + 0x0080_0000,
                    _ => 0,
                };
                // The sign of a zero shows nowhere.
                let negated = if bits == 0 { bits } else { bits ^ 0x8000_0000 };
                for other in [scaled, negated] {
                    let other = format!("0f{other:08X}");
                    self.push(Kind::Float, format!("{operand} becomes {other}"), |i| i.operands[k] = other);
                }
            } else if let Ok(value) = operand.parse::<i64>() {
                let (up, down) = match value.unsigned_abs() {
                    // The bits of a float, or a bound far away: a step of one would be nothing.
                    0x10_0000.. => (value ^ 0x40_0000, value ^ 0x1000_0000),
                    _ => (value + 1, value - 1),
                };
                for other in [up, down] {
                    self.push(Kind::Constant, format!("{operand} becomes {other}"), |i| {
                        i.operands[k] = other.to_string();
                    });
                }
            }
        }
    }

    fn offsets(&mut self) {
        if !["ld", "st", "atom", "red"].contains(&self.instruction.name()) {
            return;
        }
        let opcode = &self.instruction.opcode;
        let bits = opcode.rsplit('.').next().map(|ty| ty.trim_start_matches(|c: char| c.is_ascii_alphabetic()));
        let width = bits.and_then(|bits| bits.parse::<i64>().ok()).unwrap_or(32) / 8;
        let Some(k) = self.instruction.operands.iter().position(|o| o.starts_with('[')) else { return };
        let inside = self.instruction.operands[k].trim_matches(['[', ']']).to_owned();
        let (base, offset) = match inside.split_once('+') {
            Some((base, offset)) => (base.to_owned(), offset.parse::<i64>().unwrap_or(0)),
            None => (inside, 0),
        };
        for other in [offset + width, offset - width] {
            let text = format!("[{base}{other:+}]");
            self.push(Kind::Offset, format!("offset {offset} becomes {other}"), |i| i.operands[k] = text);
        }
    }

    fn swaps(&mut self) {
        let (a, b) = match self.instruction.name() {
            "setp"
                if [".eq", ".ne", ".equ", ".neu", ".num", ".nan"]
                    .iter()
                    .any(|c| self.instruction.opcode.contains(c)) =>
            {
                return;
            }
            "sub" | "div" | "rem" | "shl" | "shr" | "selp" | "prmt" | "setp" => (1, 2),
            "fma" | "mad" => (2, 3),
            _ => return,
        };
        if self.instruction.operands.len() > b {
            self.push(Kind::Swap, format!("operands {a} and {b} swapped"), |i| i.operands.swap(a, b));
        }
    }

    fn operation(&mut self) {
        const OTHERS: [(&str, &str); 22] = [
            ("add", "sub"),
            ("sub", "add"),
            ("min", "max"),
            ("max", "min"),
            ("and", "or"),
            ("or", "and"),
            ("xor", "or"),
            ("not", "mov"),
            ("shl", "shr"),
            ("neg", "mov"),
            ("abs", "mov"),
            ("mul.f32", "add.f32"),
            ("mul.lo", "add"),
            ("mad.lo.s32", "add.s32"),
            ("mul.wide.u32", "mul.wide.u16"),
            ("div.rn", "mul.rn"),
            ("div.u", "add.u"),
            ("rcp.rn.f32", "mov.f32"),
            ("ex2.approx.ftz.f32", "mov.f32"),
            (".bfly", ".up"),
            (".bfly", ".idx"),
            ("shr.s", "shr.u"),
        ];
        let opcode = self.instruction.opcode.clone();
        // Adding and subtracting nothing are the same.
        let nothing = ["0", "0f00000000"].iter().any(|zero| self.instruction.operands.iter().any(|o| o == zero));
        let sums = ["add", "sub"].contains(&self.instruction.name());
        for (from, to) in OTHERS.into_iter().filter(|_| !(sums && nothing)) {
            let fits = match from.strip_prefix('.') {
                Some(_) => opcode.contains(&format!("{from}.")),
                None => opcode.strip_prefix(from).is_some_and(|rest| {
                    rest.is_empty() || !from.ends_with(char::is_alphabetic) || rest.starts_with('.')
                }),
            };
            if fits {
                self.opcode(Kind::Operation, from, to);
            }
        }
    }

    fn modifiers(&mut self) {
        let opcode = self.instruction.opcode.clone();
        if opcode.starts_with("cvt.rn.f16") || opcode.starts_with("cvt.rn.bf16") {
            self.opcode(Kind::Modifier, ".rn", ".rz");
        }
        for modifier in [".NaN", ".sat"].into_iter().filter(|m| opcode.contains(m)) {
            let without = opcode.replacen(modifier, "", 1);
            self.push(Kind::Modifier, format!("without {modifier}"), |i| i.opcode = without);
        }
    }

    fn vectors(&mut self) {
        for k in 0..self.instruction.operands.len() {
            let Some(inside) = self.instruction.operands[k].strip_prefix('{').and_then(|o| o.strip_suffix('}')) else {
                continue;
            };
            let elements: Vec<&str> = inside.split(',').map(str::trim).collect();
            let pairs: &[(usize, usize)] = if elements.len() == 4 { &[(0, 1), (1, 3)] } else { &[(0, 1)] };
            let swapped = pairs.iter().filter(|(_, b)| *b < elements.len()).map(|&(a, b)| {
                let mut other = elements.clone();
                other.swap(a, b);
                (format!("elements {a} and {b} swapped"), format!("{{{}}}", other.join(", ")))
            });
            for (what, text) in swapped.collect::<Vec<_>>() {
                self.push(Kind::Vector, what, |i| i.operands[k] = text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lines::Lines;
    use super::super::ptx::Text;
    use super::*;

    fn of(line: &str) -> Vec<(Kind, String)> {
        let module = format!(".visible .entry k(\n)\n{{\n\t{line}\n}}\n");
        let text = Text::extract(&module, "k", &Lines::default())
            .unwrap_or(Text { lines: Vec::new(), instructions: Vec::new() });
        text.instructions.iter().flat_map(changes).map(|c| (c.kind, c.text)).collect()
    }

    fn has(line: &str, kind: Kind, text: &str) {
        let all = of(line);
        assert!(all.iter().any(|(k, t)| *k == kind && t == text), "{line}: no {text:?} among {all:?}");
    }

    #[test]
    fn every_class_of_changes() {
        has("bar.sync \t0;", Kind::Synchronisation, "");
        has("cp.async.wait_group 0;", Kind::Synchronisation, "");
        has("st.global.f32 \t[%rd1], %f1;", Kind::Store, "");
        has("@%p1 bra \t$L__BB0_2;", Kind::Guard, "@!%p1 bra $L__BB0_2;");
        has("@%p1 bra \t$L__BB0_2;", Kind::Guard, "bra $L__BB0_2;");
        has("@%p1 bra \t$L__BB0_2;", Kind::Guard, "");
        has("setp.lt.s32 \t%p1, %r1, 5;", Kind::Comparison, "setp.le.s32 %p1, %r1, 5;");
        has("setp.lt.f32 \t%p1, %f1, %f2;", Kind::Comparison, "setp.ltu.f32 %p1, %f1, %f2;");
        has("setp.gtu.f32 \t%p1, %f1, %f2;", Kind::Comparison, "setp.gt.f32 %p1, %f1, %f2;");
        has("and.b32 \t%r1, %r2, 31;", Kind::Constant, "and.b32 %r1, %r2, 30;");
        has("shl.b64 \t%rd1, %rd2, 2;", Kind::Constant, "shl.b64 %rd1, %rd2, 3;");
        has("mov.f32 \t%f1, 0f42B00000;", Kind::Float, "mov.f32 %f1, 0f43300000;");
        has("ld.global.u16 \t%rs1, [%rd1+2];", Kind::Offset, "ld.global.u16 %rs1, [%rd1+4];");
        has("ld.param.u64 \t%rd1, [k_param_0+8];", Kind::Offset, "ld.param.u64 %rd1, [k_param_0+0];");
        has("sub.f32 \t%f1, %f2, %f3;", Kind::Swap, "sub.f32 %f1, %f3, %f2;");
        has("fma.rn.f32 \t%f1, %f2, %f3, %f4;", Kind::Swap, "fma.rn.f32 %f1, %f2, %f4, %f3;");
        has("add.s64 \t%rd1, %rd2, %rd3;", Kind::Operation, "sub.s64 %rd1, %rd2, %rd3;");
        has("or.pred  \t%p1, %p2, %p3;", Kind::Operation, "and.pred %p1, %p2, %p3;");
        has(
            "shfl.sync.bfly.b32 \t%r1|%p1, %r2, 16, 31, -1;",
            Kind::Operation,
            "shfl.sync.up.b32 %r1|%p1, %r2, 16, 31, -1;",
        );
        has("cvt.rn.f16.f32 %rs1, %f1;", Kind::Modifier, "cvt.rz.f16.f32 %rs1, %f1;");
        has("min.NaN.f32 %f1, %f2, %f3;", Kind::Modifier, "min.f32 %f1, %f2, %f3;");
        has("st.global.v2.b32 [%rd1], {%r1, %r2};", Kind::Vector, "st.global.v2.b32 [%rd1], {%r2, %r1};");
        assert!(of("mov.u32 \t%r1, %tid.x;").is_empty() && of("ret;").is_empty());
    }
}
