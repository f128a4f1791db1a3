//! The instructions that this engine does: what dispatches them, and what the documentation lists.

use crate::ptx::Type;

/// What lowers an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after what they lower")]
pub enum Family {
    Arithmetic,
    SpecialFunction,
    CopySign,
    Bits,
    Logic,
    Shift,
    Setp,
    Set,
    Selp,
    Slct,
    Testp,
    Mov,
    Cvt,
    Cvta,
    IsSpacep,
    Load,
    Store,
    Atomic,
    CopyAsync,
    CacheHint,
    ClusterAddress,
    Mbarrier,
    Branch,
    Call,
    Synchronise,
    Warp,
}

impl Family {
    /// The heading under which the documentation lists it.
    fn section(self) -> &'static str {
        match self {
            Family::Arithmetic | Family::SpecialFunction | Family::CopySign => "Arithmetic",
            Family::Bits | Family::Logic | Family::Shift => "Logic, shifts and bits",
            Family::Setp | Family::Set | Family::Selp | Family::Slct | Family::Testp => "Comparison and selection",
            Family::Mov | Family::Cvt | Family::Cvta | Family::IsSpacep => "Moves and conversions",
            Family::Load | Family::Store | Family::Atomic | Family::CopyAsync | Family::CacheHint => "Memory",
            Family::ClusterAddress => "Memory",
            Family::Mbarrier => "Synchronisation",
            Family::Branch | Family::Call => "Control flow",
            Family::Synchronise => "Synchronisation",
            Family::Warp => "Among the lanes of a warp",
        }
    }
}

/// An instruction.
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    /// The opcode without modifiers.
    pub name: &'static str,
    /// What lowers it.
    pub family: Family,
    /// Its forms.
    pub forms: &'static [Form],
}

/// One form of an instruction.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Its opcode. `[a/b]` is one of them, `{.a}` may be left out.
    pub opcode: &'static str,
    /// Its operands. `T` is a register of the opcode's last type, `F` one of the first, `V` a vector of
    /// `T` where the opcode has one.
    pub operands: &'static str,
    /// The oldest target that has it, if that is not every one.
    pub since: &'static str,
}

impl Form {
    /// All opcodes that it stands for.
    pub fn opcodes(&self) -> Vec<String> {
        expand(self.opcode)
    }

    /// An instruction with this opcode, on registers as kernels in tests declare them: `%h`, `%r`,
    /// `%rd` by size, and `%p`.
    pub fn instance(&self, opcode: &str) -> String {
        let types: Vec<Type> = opcode.split('.').filter_map(Type::parse).collect();
        let register = |ty: Option<&Type>| match ty.map(|ty| ty.bytes()) {
            Some(0) => "%p1",
            Some(2) => "%h1",
            Some(8) => "%rd1",
            _ => "%r1",
        };
        let (first, last) = (register(types.first()), register(types.last()));
        let count =
            [("v2", 2), ("v4", 4), ("v8", 8)].into_iter().find(|(name, _)| opcode.split('.').any(|m| m == *name));
        let vector = match count {
            Some((_, count)) => format!("{{{}}}", vec![last; count].join(", ")),
            None => last.to_owned(),
        };
        let operands: Vec<String> = self
            .operands
            .split(' ')
            .map(|word| {
                let (letter, rest) = word.split_at(word.len().min(1));
                match (letter, rest) {
                    ("T", "" | ",") => format!("{last}{rest}"),
                    ("F", "" | ",") => format!("{first}{rest}"),
                    ("V", "" | ",") => format!("{vector}{rest}"),
                    _ => word.to_owned(),
                }
            })
            .collect();
        format!("{opcode} {};", operands.join(" "))
    }
}

/// The texts that a pattern stands for.
fn expand(pattern: &str) -> Vec<String> {
    let Some(open) = pattern.find(['[', '{']) else { return vec![pattern.to_owned()] };
    let (before, rest) = pattern.split_at(open);
    // The parts of what the bracket encloses, and where it ends.
    let (mut depth, mut start, mut parts, mut end) = (0, 1, Vec::new(), rest.len());
    for (at, c) in rest.char_indices() {
        depth += match c {
            '[' | '{' => 1,
            ']' | '}' => -1,
            _ => 0,
        };
        if depth == 0 || (depth == 1 && c == '/') {
            parts.push(&rest[start..at]);
            start = at + 1;
        }
        if depth == 0 {
            end = at + 1;
            break;
        }
    }
    let mut choices: Vec<String> = parts.into_iter().flat_map(expand).collect();
    if rest.starts_with('{') {
        choices.insert(0, String::new());
    }
    let after = expand(&rest[end..]);
    choices.iter().flat_map(|choice| after.iter().map(move |after| format!("{before}{choice}{after}"))).collect()
}

/// The instruction with a name.
pub(super) fn find(name: &str) -> Option<&'static Instruction> {
    INSTRUCTIONS.iter().find(|instruction| instruction.name == name)
}

/// The documentation's list, in Markdown.
pub fn markdown() -> String {
    let mut text = String::from(
        "# PTX instructions\n\n\
         Generated from the table by which instructions are lowered (`src/lower/table.rs`). `[a/b]` is one of\n\
         them, `{.a}` may be left out; `T` is a register of the opcode's last type, `F` one of its first, `V` a\n\
         vector of `T` where there is `.v2` to `.v8`. Anything else is refused when a module is loaded, with the\n\
         instruction and its line.\n",
    );
    let mut section = "";
    for instruction in INSTRUCTIONS {
        if instruction.family.section() != section {
            section = instruction.family.section();
            text += &format!("\n## {section}\n\n| Opcode | Operands | From |\n|---|---|---|\n");
        }
        for form in instruction.forms {
            let operands = if form.operands.is_empty() {
                String::new()
            } else {
                format!("`{}`", form.operands.replace('|', "\\|"))
            };
            text += &format!("| `{}` | {operands} | {} |\n", form.opcode, form.since);
        }
    }
    text
}

const fn all(opcode: &'static str, operands: &'static str) -> Form {
    Form { opcode, operands, since: "" }
}

const fn from(since: &'static str, opcode: &'static str, operands: &'static str) -> Form {
    Form { opcode, operands, since }
}

const fn row(name: &'static str, family: Family, forms: &'static [Form]) -> Instruction {
    Instruction { name, family, forms }
}

use Family::{
    Arithmetic, Atomic, Bits, Branch, CacheHint, Call, ClusterAddress, CopyAsync, CopySign, Cvt, Cvta, IsSpacep, Load,
    Logic, Mbarrier, Mov, Selp, Set, Setp, Shift, Slct, SpecialFunction, Store, Synchronise, Testp, Warp,
};

/// All instructions, by section.
#[rustfmt::skip]
pub const INSTRUCTIONS: &[Instruction] = &[
    row("add", Arithmetic, &[
        all("add.[u16/s16/u32/s32/u64/s64]", "T, T, T"),
        all("add.sat.s32", "T, T, T"),
        all("add.cc.[u32/s32/u64/s64]", "T, T, T"),
        from("sm_90", "add.[u16x2/s16x2]", "T, T, T"),
        all("add{.[rn/rz/rm/rp]}{.ftz}{.sat}.f32", "T, T, T"),
        from("sm_100", "add{.[rn/rz/rm/rp]}{.ftz}.f32x2", "T, T, T"),
        all("add{.[rn/rz/rm/rp]}.f64", "T, T, T"),
        all("add{.rn}{.ftz}{.sat}.[f16/f16x2]", "T, T, T"),
        from("sm_90", "add{.rn}.[bf16/bf16x2]", "T, T, T"),
        from("sm_100", "add{.[rn/rz/rm/rp]}{.sat}.f32.[f16/bf16]", "F, T, F"),
    ]),
    row("addc", Arithmetic, &[all("addc{.cc}.[u32/s32/u64/s64]", "T, T, T")]),
    row("sub", Arithmetic, &[
        all("sub.[u16/s16/u32/s32/u64/s64]", "T, T, T"),
        all("sub.sat.s32", "T, T, T"),
        all("sub.cc.[u32/s32/u64/s64]", "T, T, T"),
        all("sub{.[rn/rz/rm/rp]}{.ftz}{.sat}.f32", "T, T, T"),
        from("sm_100", "sub{.[rn/rz/rm/rp]}{.ftz}.f32x2", "T, T, T"),
        all("sub{.[rn/rz/rm/rp]}.f64", "T, T, T"),
        all("sub{.rn}{.ftz}{.sat}.[f16/f16x2]", "T, T, T"),
        from("sm_90", "sub{.rn}.[bf16/bf16x2]", "T, T, T"),
        from("sm_100", "sub{.[rn/rz/rm/rp]}{.sat}.f32.[f16/bf16]", "F, T, F"),
    ]),
    row("subc", Arithmetic, &[all("subc{.cc}.[u32/s32/u64/s64]", "T, T, T")]),
    row("mul", Arithmetic, &[
        all("mul.[lo/hi].[u16/s16/u32/s32/u64/s64]", "T, T, T"),
        all("mul.wide.[u16/s16]", "%r1, T, T"),
        all("mul.wide.[u32/s32]", "%rd1, T, T"),
        all("mul{.[rn/rz/rm/rp]}{.ftz}{.sat}.f32", "T, T, T"),
        from("sm_100", "mul{.[rn/rz/rm/rp]}{.ftz}.f32x2", "T, T, T"),
        all("mul{.[rn/rz/rm/rp]}.f64", "T, T, T"),
        all("mul{.rn}{.ftz}{.sat}.[f16/f16x2]", "T, T, T"),
        from("sm_90", "mul{.rn}.[bf16/bf16x2]", "T, T, T"),
    ]),
    row("mad", Arithmetic, &[
        all("mad.lo.[u16/s16/u32/s32/u64/s64]", "T, T, T, T"),
        all("mad.hi.[u32/s32/u64/s64]", "T, T, T, T"),
        all("mad.hi.sat.s32", "T, T, T, T"),
        all("mad.wide.[u16/s16]", "%r1, T, T, %r1"),
        all("mad.wide.[u32/s32]", "%rd1, T, T, %rd1"),
        all("mad.[lo/hi].cc.[u32/s32/u64/s64]", "T, T, T, T"),
        all("mad.[rn/rz/rm/rp]{.ftz}{.sat}.f32", "T, T, T, T"),
        all("mad.[rn/rz/rm/rp].f64", "T, T, T, T"),
    ]),
    row("madc", Arithmetic, &[all("madc.[lo/hi]{.cc}.[u32/s32/u64/s64]", "T, T, T, T")]),
    row("fma", Arithmetic, &[
        all("fma.[rn/rz/rm/rp]{.ftz}{.sat}.f32", "T, T, T, T"),
        from("sm_100", "fma.[rn/rz/rm/rp]{.ftz}.f32x2", "T, T, T, T"),
        all("fma.[rn/rz/rm/rp].f64", "T, T, T, T"),
        all("fma.rn{.ftz}{.[sat/relu]}.[f16/f16x2]", "T, T, T, T"),
        from("sm_80", "fma.rn{.relu}.[bf16/bf16x2]", "T, T, T, T"),
        from("sm_100", "fma.[rn/rz/rm/rp]{.sat}.f32.[f16/bf16]", "F, T, T, F"),
    ]),
    row("div", Arithmetic, &[
        all("div.[u16/s16/u32/s32/u64/s64]", "T, T, T"),
        all("div.[approx/full/rn/rz/rm/rp]{.ftz}.f32", "T, T, T"),
        all("div.[rn/rz/rm/rp].f64", "T, T, T"),
    ]),
    row("rem", Arithmetic, &[all("rem.[u16/s16/u32/s32/u64/s64]", "T, T, T")]),
    row("min", Arithmetic, &[
        all("min.[u16/s16/u32/s32/u64/s64]", "T, T, T"),
        from("sm_90", "min.[u16x2/s16x2]", "T, T, T"),
        from("sm_90", "min.relu.[s32/s16x2]", "T, T, T"),
        all("min{.ftz}{.NaN}{.xorsign.abs}.f32", "T, T, T"),
        from("sm_100", "min{.ftz}{.NaN}{.abs}.f32", "T, T, T, T"),
        all("min.f64", "T, T, T"),
        from("sm_80", "min{.ftz}{.NaN}{.xorsign.abs}.[f16/f16x2]", "T, T, T"),
        from("sm_80", "min{.NaN}{.xorsign.abs}.[bf16/bf16x2]", "T, T, T"),
    ]),
    row("max", Arithmetic, &[
        all("max.[u16/s16/u32/s32/u64/s64]", "T, T, T"),
        from("sm_90", "max.[u16x2/s16x2]", "T, T, T"),
        from("sm_90", "max.relu.[s32/s16x2]", "T, T, T"),
        all("max{.ftz}{.NaN}{.xorsign.abs}.f32", "T, T, T"),
        from("sm_100", "max{.ftz}{.NaN}{.abs}.f32", "T, T, T, T"),
        all("max.f64", "T, T, T"),
        from("sm_80", "max{.ftz}{.NaN}{.xorsign.abs}.[f16/f16x2]", "T, T, T"),
        from("sm_80", "max{.NaN}{.xorsign.abs}.[bf16/bf16x2]", "T, T, T"),
    ]),
    row("abs", Arithmetic, &[
        all("abs.[s16/s32/s64/f64/bf16/bf16x2]", "T, T"),
        all("abs{.ftz}.[f32/f16/f16x2]", "T, T"),
    ]),
    row("neg", Arithmetic, &[
        all("neg.[s16/s32/s64/f64/bf16/bf16x2]", "T, T"),
        all("neg{.ftz}.[f32/f16/f16x2]", "T, T"),
    ]),
    row("rcp", SpecialFunction, &[
        all("rcp.[approx/rn/rz/rm/rp]{.ftz}.f32", "T, T"),
        all("rcp.[rn/rz/rm/rp].f64", "T, T"),
        all("rcp.approx.ftz.f64", "T, T"),
    ]),
    row("sqrt", SpecialFunction, &[
        all("sqrt.[approx/rn/rz/rm/rp]{.ftz}.f32", "T, T"),
        all("sqrt.[rn/rz/rm/rp].f64", "T, T"),
    ]),
    row("rsqrt", SpecialFunction, &[all("rsqrt.approx{.ftz}.[f32/f64]", "T, T")]),
    row("sin", SpecialFunction, &[all("sin.approx{.ftz}.f32", "T, T")]),
    row("cos", SpecialFunction, &[all("cos.approx{.ftz}.f32", "T, T")]),
    row("lg2", SpecialFunction, &[all("lg2.approx{.ftz}.f32", "T, T")]),
    row("ex2", SpecialFunction, &[
        all("ex2.approx{.ftz}.f32", "T, T"),
        all("ex2.approx.[f16/f16x2]", "T, T"),
        from("sm_90", "ex2.approx.ftz.[bf16/bf16x2]", "T, T"),
    ]),
    row("tanh", SpecialFunction, &[
        all("tanh.approx.[f32/f16/f16x2]", "T, T"),
        from("sm_90", "tanh.approx.[bf16/bf16x2]", "T, T"),
    ]),
    row("copysign", CopySign, &[all("copysign.[f32/f64]", "T, T, T")]),
    row("mul24", Bits, &[all("mul24.[lo/hi].[u32/s32]", "T, T, T")]),
    row("mad24", Bits, &[all("mad24.[lo/hi].[u32/s32]", "T, T, T, T"), all("mad24.hi.sat.s32", "T, T, T, T")]),
    row("sad", Bits, &[all("sad.[u16/s16/u32/s32/u64/s64]", "T, T, T, T")]),
    row("dp4a", Bits, &[all("dp4a.[u32/s32].[u32/s32]", "%r1, %r2, %r3, %r4")]),
    row("dp2a", Bits, &[all("dp2a.[lo/hi].[u32/s32].[u32/s32]", "%r1, %r2, %r3, %r4")]),
    row("vabsdiff2", Bits, &[all("vabsdiff2.u32.u32.u32{.add}", "%r1, %r2, %r3, %r4")]),
    row("vabsdiff4", Bits, &[all("vabsdiff4.u32.u32.u32{.add}", "%r1, %r2, %r3, %r4")]),
    row("popc", Bits, &[all("popc.[b32/b64]", "%r1, T")]),
    row("clz", Bits, &[all("clz.[b32/b64]", "%r1, T")]),
    row("bfind", Bits, &[all("bfind{.shiftamt}.[u32/s32/u64/s64]", "%r1, T")]),
    row("fns", Bits, &[all("fns.b32", "%r1, %r2, %r3, %r4")]),
    row("brev", Bits, &[all("brev.[b32/b64]", "T, T")]),
    row("bfe", Bits, &[all("bfe.[u32/s32/u64/s64]", "T, T, %r2, %r3")]),
    row("bfi", Bits, &[all("bfi.[b32/b64]", "T, T, T, %r2, %r3")]),
    row("bmsk", Bits, &[all("bmsk.[clamp/wrap].b32", "T, T, T")]),
    row("szext", Bits, &[all("szext.[clamp/wrap].[u32/s32]", "T, T, T")]),
    row("lop3", Bits, &[
        all("lop3.b32", "%r1, %r2, %r3, %r4, 0x96"),
        all("lop3.[or/and].b32", "%r1|%p1, %r2, %r3, %r4, 0x96, %p2"),
    ]),
    row("prmt", Bits, &[all("prmt.b32{.[f4e/b4e/rc8/ecl/ecr/rc16]}", "%r1, %r2, %r3, %r4")]),
    row("and", Logic, &[all("and.[pred/b16/b32/b64]", "T, T, T")]),
    row("or", Logic, &[all("or.[pred/b16/b32/b64]", "T, T, T")]),
    row("xor", Logic, &[all("xor.[pred/b16/b32/b64]", "T, T, T")]),
    row("not", Logic, &[all("not.[pred/b16/b32/b64]", "T, T")]),
    row("cnot", Logic, &[all("cnot.[b16/b32/b64]", "T, T")]),
    row("shl", Shift, &[all("shl.[b16/b32/b64]", "T, T, %r2")]),
    row("shr", Shift, &[all("shr.[b16/u16/s16/b32/u32/s32/b64/u64/s64]", "T, T, %r2")]),
    row("shf", Shift, &[all("shf.[l/r].[clamp/wrap].b32", "T, T, T, T")]),
    row("setp", Setp, &[
        all("setp.[eq/ne/lt/le/gt/ge].[s16/s32/s64]", "%p1|%p2, T, T"),
        all("setp.[eq/ne].[b16/b32/b64]", "%p1, T, T"),
        all("setp.[eq/ne/lt/le/gt/ge/lo/ls/hi/hs].[u16/u32/u64]", "%p1, T, T"),
        all("setp.[eq/ne/lt/le/gt/ge/equ/neu/ltu/leu/gtu/geu/num/nan]{.ftz}.f32", "%p1, T, T"),
        all("setp.[eq/ne/lt/le/gt/ge/equ/neu/ltu/leu/gtu/geu/num/nan].f64", "%p1, T, T"),
        all("setp.[eq/ne/lt/le/gt/ge/equ/neu/ltu/leu/gtu/geu/num/nan]{.ftz}.[f16/f16x2]", "%p1|%p2, T, T"),
        from("sm_90", "setp.[eq/ne/lt/le/gt/ge/equ/neu/ltu/leu/gtu/geu/num/nan].[bf16/bf16x2]", "%p1|%p2, T, T"),
        all("setp.lt.[and/or/xor].[s32/f64/f16x2]", "%p1|%p2, T, T, !%p3"),
    ]),
    row("set", Set, &[
        all("set.[eq/ne/lt/le/gt/ge].[u32/s32/f32].[u16/s16/u32/s32/u64/s64]", "F, T, T"),
        all("set.[eq/ltu/geu/num]{.ftz}.[u32/s32/f32].[f32/f16]", "F, T, T"),
        all("set.[eq/ltu/geu/num].[u32/s32/f32].f64", "F, T, T"),
        all("set.[eq/ltu/geu/num]{.ftz}.[u16/s16/f16].f16", "F, T, T"),
        from("sm_90", "set.[eq/ltu/geu/num].[u16/s16/bf16].bf16", "F, T, T"),
        all("set.[eq/ltu/geu/num]{.ftz}.[u32/s32/f16x2].f16x2", "F, T, T"),
        from("sm_90", "set.[eq/ltu/geu/num].[u32/s32/bf16x2].bf16x2", "F, T, T"),
        all("set.lt.[and/or/xor].u32.[s32/f16x2]", "F, T, T, !%p3"),
    ]),
    row("selp", Selp, &[all("selp.[b16/u16/s16/b32/u32/s32/b64/u64/s64/f32/f64]", "T, T, T, %p1")]),
    row("slct", Slct, &[
        all("slct.[b16/u16/s16/b32/u32/s32/b64/u64/s64/f32/f64].s32", "F, F, F, T"),
        all("slct{.ftz}.[b16/u16/s16/b32/u32/s32/b64/u64/s64/f32/f64].f32", "F, F, F, T"),
    ]),
    row("testp", Testp, &[all("testp.[finite/infinite/number/notanumber/normal/subnormal].[f32/f64]", "%p1, T")]),
    row("mov", Mov, &[
        all("mov.[pred/b16/u16/s16/b32/u32/s32/b64/u64/s64/f16/f32/f64]", "T, T"),
        all("mov.b32", "{%h1, %h2}, T"),
        all("mov.b32", "T, {%h1, %h2}"),
        all("mov.b64", "{%r1, _}, T"),
        all("mov.b64", "T, {%r1, %r2}"),
        all("mov.b64", "T, {%h1, %h2, %h3, %h4}"),
        all("mov.u32", "T, %tid.x"),
        all("mov.u64", "T, %clock64"),
    ]),
    row("cvt", Cvt, &[
        all("cvt{.sat}.[u8/u16/u32/u64/s8/s16/s32/s64].[u8/u16/u32/u64/s8/s16/s32/s64]", "F, T"),
        all("cvt.[rn/rz/rm/rp]{.sat}.[f16/f32/f64].[u8/u16/u32/u64/s8/s16/s32/s64]", "F, T"),
        from("sm_90", "cvt.[rn/rz/rm/rp].bf16.[u8/u16/u32/u64/s8/s16/s32/s64]", "F, T"),
        all("cvt.[rni/rzi/rmi/rpi]{.ftz}{.sat}.[u8/u16/u32/u64/s8/s16/s32/s64].f32", "F, T"),
        all("cvt.[rni/rzi/rmi/rpi]{.sat}.[u8/u16/u32/u64/s8/s16/s32/s64].[f16/f64]", "F, T"),
        from("sm_90", "cvt.[rni/rzi/rmi/rpi].[u8/u16/u32/u64/s8/s16/s32/s64].bf16", "F, T"),
        all("cvt{.ftz}{.sat}.f32.[f16/f32]", "F, T"),
        all("cvt.[rni/rzi/rmi/rpi]{.ftz}{.sat}.f32.f32", "F, T"),
        all("cvt.[rni/rzi/rmi/rpi]{.sat}.f64.f64", "F, T"),
        all("cvt.[rni/rzi/rmi/rpi]{.sat}.f16.f16", "F, T"),
        all("cvt{.ftz}{.sat}.f64.f32", "F, T"),
        all("cvt.[rn/rz/rm/rp]{.ftz}{.sat}.f32.f64", "F, T"),
        all("cvt.[rn/rz/rm/rp]{.ftz}{.sat}.f16.f32", "F, T"),
        all("cvt.[rn/rz/rm/rp]{.sat}.f16.f64", "F, T"),
        from("sm_90", "cvt.[f32/f64].bf16", "F, T"),
        from("sm_80", "cvt.[rn/rz]{.relu}{.satfinite}.[f16/bf16].f32", "F, T"),
        from("sm_80", "cvt.[rn/rz]{.relu}{.satfinite}.[f16x2/bf16x2].f32", "F, T, T"),
        from("sm_80", "cvt.rna{.satfinite}.tf32.f32", "F, T"),
        from("sm_90", "cvt.[rn/rz]{.relu}{.satfinite}.tf32.f32", "F, T"),
        from("sm_89", "cvt.rn.satfinite{.relu}.[e4m3x2/e5m2x2].f32", "F, T, T"),
        from("sm_89", "cvt.rn.satfinite{.relu}.[e4m3x2/e5m2x2].f16x2", "F, T"),
        from("sm_89", "cvt.rn{.relu}.f16x2.[e4m3x2/e5m2x2]", "F, T"),
        all("cvt.pack.sat.[u16/s16].s32", "%r1, T, T"),
        all("cvt.pack.sat.[u2/s2/u4/s4/u8/s8].s32.b32", "%r1, %r2, %r3, T"),
    ]),
    row("cvta", Cvta, &[all("cvta{.to}.[global/shared{::cta}/local/const/param].u64", "T, T")]),
    row("isspacep", IsSpacep, &[all("isspacep.[global/shared{::cta}/local/const/param]", "%p1, %rd1")]),
    row("ld", Load, &[
        all("ld{.[weak/volatile]}{.[global/shared{::cta}/local]}{.[v2/v4]}.[b8/u8/s8/b16/u16/s16/b32/u32/s32/f32]", "V, [%rd1]"),
        all("ld{.[weak/volatile]}{.[global/shared{::cta}/local]}{.v2}.[b64/u64/s64/f64]", "V, [%rd1+16]"),
        all("ld.[relaxed/acquire].[cta/cluster/gpu/sys]{.[global/shared]}.[b32/u64]", "T, [%rd1]"),
        all("ld{.global}{.[ca/cg/cs/lu/cv]}{.nc}.[b32/f64]", "T, [%rd1]"),
        all("ld.global{.nc}{.L1::no_allocate}{.L2::[64B/128B/256B]}{.[v2/v4]}.f32", "V, [%rd1]"),
        all("ld.global.L2::cache_hint.v4.u32", "V, [%rd1], %rd2"),
        from("sm_100", "ld.global{.nc}.[v8.[b32/f32]/v4.[b64/f64]]", "V, [%rd1]"),
        from("sm_90", "ld{.relaxed.cluster}.shared::cluster{.v2}.[u32/u64]", "V, [%r1]"),
        all("ld.[const/param].[b32/u64]", "T, [%rd1]"),
    ]),
    row("ldu", Load, &[all("ldu{.global}.[b32/f64]", "T, [%rd1]")]),
    row("st", Store, &[
        all("st{.[weak/volatile]}{.[global/shared{::cta}/local]}{.[v2/v4]}.[b8/u8/s8/b16/u16/s16/b32/u32/s32/f32]", "[%rd1], V"),
        all("st{.[weak/volatile]}{.[global/shared{::cta}/local]}{.v2}.[b64/u64/s64/f64]", "[%rd1+16], V"),
        all("st.[relaxed/release].[cta/cluster/gpu/sys]{.[global/shared]}.[b32/u64]", "[%rd1], T"),
        all("st{.global}.[wb/cg/cs/wt]{.v2}.f32", "[%rd1], V"),
        all("st.global.L1::no_allocate{.v4}.u32", "[%rd1], V"),
        all("st.global.L2::cache_hint.v4.u32", "[%rd1], V, %rd2"),
        from("sm_90", "st{.relaxed.cluster}.shared::cluster{.v2}.[u32/u64]", "[%r1], V"),
        from("sm_90", "st.async{.weak}.shared::cluster.mbarrier::complete_tx::bytes{.[v2/v4]}.[b32/u32/s32/f32]", "[%r1], V, [%r2]"),
        from("sm_90", "st.async{.weak}.shared::cluster.mbarrier::complete_tx::bytes{.v2}.[b64/u64/s64/f64]", "[%r1], V, [%r2]"),
        from("sm_100", "st.global.[v8.[b32/f32]/v4.[b64/f64]]", "[%rd1], V"),
    ]),
    row("atom", Atomic, &[
        all("atom{.[global/shared]}.add.[u32/s32/u64/f32/f64]", "T, [%rd1], T"),
        all("atom{.[global/shared]}.[min/max].[u32/s32/u64/s64]", "T, [%rd1], T"),
        all("atom{.[global/shared]}.[and/or/xor/exch].[b32/b64]", "T, [%rd1], T"),
        all("atom{.[global/shared]}.[inc/dec].u32", "T, [%rd1], T"),
        all("atom{.[global/shared]}.cas.[b16/b32/b64]", "T, [%rd1], T, T"),
        all("atom.[relaxed/acquire/release/acq_rel].[cta/cluster/gpu/sys].global.add.u32", "T, [%rd1], T"),
        all("atom{.[global/shared]}.add.noftz.[f16/f16x2]", "T, [%rd1], T"),
        from("sm_90", "atom{.[global/shared]}.add.noftz.[bf16/bf16x2]", "T, [%rd1], T"),
        from("sm_90", "atom.shared::cluster.add.[u32/f32]", "T, [%r1], T"),
        from("sm_90", "atom.global.[v2/v4].f32.add", "V, [%rd1], V"),
        from("sm_90", "atom.global.[v2/v4/v8].[f16/bf16].[add/min/max].noftz", "V, [%rd1], V"),
        from("sm_90", "atom.global.[v2/v4].[f16x2/bf16x2].[add/min/max].noftz", "V, [%rd1], V"),
    ]),
    row("red", Atomic, &[
        all("red{.[global/shared]}.add.[u32/s32/u64/f32/f64]", "[%rd1], T"),
        all("red{.[global/shared]}.[min/max].[u32/s32/u64/s64]", "[%rd1], T"),
        all("red{.[global/shared]}.[and/or/xor].[b32/b64]", "[%rd1], T"),
        all("red{.[global/shared]}.[inc/dec].u32", "[%rd1], T"),
        all("red.[relaxed/release].[cta/cluster/gpu/sys].global.add.u32", "[%rd1], T"),
        all("red{.[global/shared]}.add.noftz.[f16/f16x2]", "[%rd1], T"),
        from("sm_90", "red{.[global/shared]}.add.noftz.[bf16/bf16x2]", "[%rd1], T"),
        from("sm_90", "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.[add/min/max].[u32/s32]", "[%r1], T, [%r2]"),
        from("sm_90", "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.[add.u64/inc.u32/dec.u32/and.b32/or.b32/xor.b32]", "[%r1], T, [%r2]"),
        from("sm_90", "red.global.[v2/v4].f32.add", "[%rd1], V"),
        from("sm_90", "red.global.[v2/v4/v8].[f16/bf16].[add/min/max].noftz", "[%rd1], V"),
        from("sm_90", "red.global.[v2/v4].[f16x2/bf16x2].[add/min/max].noftz", "[%rd1], V"),
    ]),
    row("cp", CopyAsync, &[
        from("sm_80", "cp.async.ca.shared{::cta}.global{.L2::[64B/128B/256B]}", "[%r1], [%rd1], 4, %r2"),
        from("sm_80", "cp.async.cg.shared{::cta}.global{.L2::[64B/128B/256B]}", "[%r1], [%rd1], 16, %p1"),
        from("sm_80", "cp.async.[commit_group/wait_all]", ""),
        from("sm_80", "cp.async.wait_group", "2"),
        from("sm_80", "cp.async.mbarrier.arrive{.noinc}{.shared{::cta}}.b64", "[%rd1]"),
        from("sm_90", "cp.async.bulk.[shared::cta/shared::cluster].global.mbarrier::complete_tx::bytes", "[%r1], [%rd1], %r2, [%r3]"),
        from("sm_90", "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster", "[%r1], [%rd1], %r2, [%r3], %h1"),
        from("sm_90", "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint", "[%r1], [%rd1], %r2, [%r3], %rd2"),
        from("sm_90", "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes", "[%r1], [%r4], %r2, [%r3]"),
        from("sm_90", "cp.async.bulk.global.shared::cta.bulk_group", "[%rd1], [%r1], %r2"),
        from("sm_90", "cp.async.bulk.prefetch.L2.global", "[%rd1], %r2"),
        from("sm_90", "cp.async.bulk.commit_group", ""),
        from("sm_90", "cp.async.bulk.wait_group{.read}", "1"),
        from("sm_90", "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.[add/min/max].[u32/s32]", "[%r1], [%r4], %r2, [%r3]"),
        from("sm_90", "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.[add.u64/inc.u32/dec.u32/and.b32/or.b32/xor.b32]", "[%r1], [%r4], %r2, [%r3]"),
        from("sm_90", "cp.reduce.async.bulk.global.shared::cta.bulk_group.[add/min/max].[u32/s32/u64]", "[%rd1], [%r1], %r2"),
        from("sm_90", "cp.reduce.async.bulk.global.shared::cta.bulk_group.[add.[f32/f64]/[min/max].[s64/f16/bf16]/[inc/dec].u32]", "[%rd1], [%r1], %r2"),
        from("sm_90", "cp.reduce.async.bulk.global.shared::cta.bulk_group.[and/or/xor].[b32/b64]", "[%rd1], [%r1], %r2"),
        from("sm_90", "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.noftz.[f16/bf16]", "[%rd1], [%r1], %r2"),
    ]),
    row("prefetch", CacheHint, &[
        all("prefetch{.[global/local]}.[L1/L2]", "[%rd1]"),
        all("prefetch.global.L2::[evict_last/evict_normal]", "[%rd1]"),
    ]),
    row("prefetchu", CacheHint, &[all("prefetchu.L1", "[%rd1]")]),
    row("discard", CacheHint, &[from("sm_80", "discard{.global}.L2", "[%rd1], 128")]),
    row("applypriority", CacheHint, &[from("sm_80", "applypriority{.global}.L2::evict_normal", "[%rd1], 128")]),
    row("createpolicy", CacheHint, &[
        from("sm_80", "createpolicy.fractional.L2::[evict_last/evict_normal/evict_first/evict_unchanged]{.L2::evict_unchanged}.b64", "%rd1, 0f3F800000"),
        from("sm_80", "createpolicy.range.global.L2::[evict_last/evict_first].b64", "%rd1, [%rd2], 128, 256"),
        from("sm_80", "createpolicy.cvt.L2.b64", "%rd1, %rd2"),
    ]),
    row("bra", Branch, &[all("bra{.uni}", "LABEL")]),
    row("brx", Branch, &[all("brx.idx{.uni}", "%r1, TABLE")]),
    row("ret", Branch, &[all("ret{.uni}", "")]),
    row("exit", Branch, &[all("exit", "")]),
    row("trap", Branch, &[all("trap", "")]),
    row("brkpt", Branch, &[all("brkpt", "")]),
    row("call", Call, &[
        all("call{.uni}", "(%r1), function, (%r2)"),
        all("call{.uni}", "(%r1), %rd1, (%r2), prototype"),
    ]),
    row("bar", Synchronise, &[
        all("bar{.cta}.sync", "0, 64"),
        all("bar{.cta}.arrive", "1, 64"),
        all("bar{.cta}.red.popc.u32", "%r1, 0, 64, !%p1"),
        all("bar{.cta}.red.[and/or].pred", "%p1, 0, 64, %p2"),
        all("bar.warp.sync", "-1"),
    ]),
    row("barrier", Synchronise, &[
        all("barrier{.cta}.sync{.aligned}", "%r1, 64"),
        all("barrier{.cta}.arrive{.aligned}", "1, 64"),
        all("barrier{.cta}.red.popc{.aligned}.u32", "%r1, 0, %p1"),
        all("barrier{.cta}.red.[and/or]{.aligned}.pred", "%p1, 0, %p2"),
        from("sm_90", "barrier.cluster.arrive{.[release/relaxed]}{.aligned}", ""),
        from("sm_90", "barrier.cluster.wait{.acquire}{.aligned}", ""),
    ]),
    row("mapa", ClusterAddress, &[
        from("sm_90", "mapa.u64", "%rd1, %rd2, 1"),
        from("sm_90", "mapa.shared::cluster.[u32/u64]", "T, T, %r1"),
    ]),
    row("getctarank", ClusterAddress, &[
        from("sm_90", "getctarank.u64", "%r1, %rd1"),
        from("sm_90", "getctarank.shared::cluster.[u32/u64]", "%r1, T"),
    ]),
    row("mbarrier", Mbarrier, &[
        from("sm_80", "mbarrier.init{.shared{::cta}}.b64", "[%rd1], %r1"),
        from("sm_80", "mbarrier.inval{.shared{::cta}}.b64", "[%rd1]"),
        from("sm_80", "mbarrier.[arrive/arrive_drop]{.[release/relaxed].[cta/cluster]}{.shared{::cta}}.b64", "%rd1, [%rd2]"),
        from("sm_80", "mbarrier.[arrive/arrive_drop].noComplete{.release.cta}{.shared{::cta}}.b64", "%rd1, [%rd2], %r1"),
        from("sm_90", "mbarrier.[arrive/arrive_drop]{.[release/relaxed].cluster}.shared::cluster.b64", "_, [%r1], %r2"),
        from("sm_90", "mbarrier.[arrive/arrive_drop].expect_tx{.[release/relaxed].[cta/cluster]}{.shared{::cta}}.b64", "%rd1, [%rd2], %r1"),
        from("sm_90", "mbarrier.[arrive/arrive_drop].expect_tx{.[release/relaxed].cluster}.shared::cluster.b64", "_, [%r1], %r2"),
        from("sm_90", "mbarrier.[expect_tx/complete_tx]{.relaxed.[cta/cluster]}{.[shared{::cta}/shared::cluster]}.b64", "[%rd1], %r1"),
        from("sm_80", "mbarrier.test_wait{.[acquire/relaxed].[cta/cluster]}{.shared{::cta}}.b64", "%p1, [%rd1], %rd2"),
        from("sm_80", "mbarrier.test_wait.parity{.[acquire/relaxed].[cta/cluster]}{.shared{::cta}}.b64", "%p1, [%rd1], %r1"),
        from("sm_90", "mbarrier.try_wait{.[acquire/relaxed].[cta/cluster]}{.shared{::cta}}.b64", "%p1, [%rd1], %rd2, %r1"),
        from("sm_90", "mbarrier.try_wait.parity{.[acquire/relaxed].[cta/cluster]}{.shared{::cta}}.b64", "%p1, [%rd1], %r1, %r2"),
        from("sm_80", "mbarrier.pending_count.b64", "%r1, %rd1"),
    ]),
    row("membar", Synchronise, &[all("membar.[cta/gl/sys]", "")]),
    row("fence", Synchronise, &[
        all("fence{.[sc/acq_rel]}.[cta/cluster/gpu/sys]", ""),
        from("sm_90", "fence.[acquire/release].[cta/cluster/gpu/sys]", ""),
        from("sm_90", "fence.proxy.[alias/async/async.[global/shared::cta/shared::cluster]]", ""),
        from("sm_90", "fence.mbarrier_init.release.cluster", ""),
        from("sm_90", "fence.[acquire.sync_restrict::shared::cluster/release.sync_restrict::shared::cta].cluster", ""),
        from("sm_90", "fence.proxy.async::generic.[acquire.sync_restrict::shared::cluster/release.sync_restrict::shared::cta].cluster", ""),
    ]),
    row("nanosleep", Synchronise, &[all("nanosleep.u32", "%r1")]),
    row("griddepcontrol", Synchronise, &[from("sm_90", "griddepcontrol.[wait/launch_dependents]", "")]),
    row("pmevent", Synchronise, &[all("pmevent{.mask}", "1")]),
    row("shfl", Warp, &[all("shfl.sync.[up/down/bfly/idx].b32", "%r1|%p1, %r2, %r3, %r4, -1")]),
    row("vote", Warp, &[
        all("vote.sync.[all/any/uni].pred", "%p1, !%p2, -1"),
        all("vote.sync.ballot.b32", "%r1, %p2, %r2"),
    ]),
    row("match", Warp, &[
        all("match.any.sync.[b32/b64]", "%r1, T, %r2"),
        all("match.all.sync.[b32/b64]", "%r1|%p1, T, %r2"),
    ]),
    row("redux", Warp, &[
        from("sm_80", "redux.sync.[add/min/max].[u32/s32]", "T, T, -1"),
        from("sm_80", "redux.sync.[and/or/xor].b32", "T, T, -1"),
        from("sm_100a", "redux.sync.[min/max]{.abs}{.NaN}.f32", "T, T, -1"),
    ]),
    row("elect", Warp, &[from("sm_90", "elect.sync", "%r1|%p1, -1")]),
    row("activemask", Warp, &[all("activemask.b32", "%r1")]),
];
