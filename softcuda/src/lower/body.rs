//! Statements: scopes, declarations, labels, instructions, inlined calls.

use std::collections::HashMap;

use crate::counters::OpClass;
use crate::ptx::{Function, Instruction, LoadError, Operand, Space, Statement, Type, Variable};

use super::context::{Content, Lowerer, Scope, Symbol};
use super::op::{Combine, Compare, CompareType, Inst, Mode, NONE, Op, PredRef, Un32, Un64};
use super::parts::Parts;
use super::table::{self, Family};

/// How deep calls may nest. Deeper ones are most likely recursion through many functions.
const MAX_CALLS: usize = 64;

/// The labels and branch tables of a body: those outside of all inner braces, and those declared
/// directly in the braces that begin at each place.
fn declared_labels<'a>(
    lowerer: &mut Lowerer<'a, '_>,
    statements: &[Statement<'a>],
) -> Result<(Scope<'a>, HashMap<usize, Scope<'a>>), LoadError> {
    let mut finished = HashMap::new();
    let mut outer = Vec::new();
    let mut scope = Scope::default();
    let mut start = 0;
    for (index, statement) in statements.iter().enumerate() {
        match statement {
            Statement::Open => outer.push((std::mem::replace(&mut start, index), std::mem::take(&mut scope))),
            Statement::Close => {
                if let Some((before, around)) = outer.pop() {
                    finished.insert(start, std::mem::replace(&mut scope, around));
                    start = before;
                }
            }
            Statement::Label(name, line) => {
                let label = lowerer.new_label();
                if scope.labels.insert(name, label).is_some() {
                    let text = format!("the label `{name}` is declared twice");
                    return Err(LoadError::symbol(*line, text));
                }
            }
            Statement::Targets(name, targets, _) => {
                scope.tables.insert(name, targets.clone());
            }
            _ => {}
        }
    }
    Ok((scope, finished))
}

impl<'a, 'm> Lowerer<'a, 'm> {
    /// Lowers the body of a kernel, whose parameters are declared in the scope on top.
    pub(super) fn entry_body(&mut self, function: &'m Function<'a>) -> Result<(), LoadError> {
        self.calls.push((function.name, u32::MAX));
        self.body(function)?;
        self.guard = PredRef::TRUE;
        self.emit(OpClass::Branch, Op::Exit);
        Ok(())
    }

    fn body(&mut self, function: &'m Function<'a>) -> Result<(), LoadError> {
        let statements = function.body.as_deref().unwrap_or(&[]);
        let (scope, mut inner) = declared_labels(self, statements)?;
        self.scopes.push(scope);
        for (index, statement) in statements.iter().enumerate() {
            match statement {
                Statement::Open => self.scopes.push(inner.remove(&index).unwrap_or_default()),
                Statement::Close => {
                    self.scopes.pop();
                }
                Statement::Label(name, line) => {
                    self.line = *line;
                    let label = self.look_up_label(name)?;
                    self.place_label(label);
                }
                Statement::Location(file, line) => self.location = (*file, *line),
                Statement::Targets(..) => {}
                Statement::Variable(variable) => self.variable(variable)?,
                Statement::Instruction(instruction) => {
                    self.line = instruction.line;
                    self.instruction(instruction)?;
                    self.check_size()?;
                }
            }
        }
        self.scopes.pop();
        Ok(())
    }

    fn variable(&mut self, variable: &'m Variable<'a>) -> Result<(), LoadError> {
        let (name, line) = (variable.name, variable.line);
        self.line = line;
        let bytes = variable.bytes().unwrap_or(u64::MAX);
        if variable.space == Space::Register {
            return self.declare_registers(variable);
        }
        if variable.range.is_some() {
            return Err(LoadError::syntax(line, "only registers have ranges"));
        }
        match variable.space {
            Space::Shared => {
                let key = std::ptr::from_ref(variable);
                let address = self.shared.get(&key).copied().unwrap_or(0);
                self.define(name, Symbol::Memory { space: Space::Shared, address, bytes }, line)
            }
            // Arguments of calls live in the caller's local memory.
            Space::Local | Space::Param => {
                let address = self.local_bytes.next_multiple_of(u64::from(variable.align));
                self.local_bytes = address.saturating_add(bytes);
                if self.local_bytes > 1 << 32 {
                    return Err(LoadError::unsupported(line, "that much local memory"));
                }
                self.define(name, Symbol::Memory { space: Space::Local, address, bytes }, line)
            }
            _ => Err(LoadError::unsupported(line, "variables of this space inside a function")),
        }
    }

    fn instruction(&mut self, instruction: &'m Instruction<'a>) -> Result<(), LoadError> {
        let mut parts = Parts::new(instruction.opcode, instruction.line);
        self.guard = match instruction.guard {
            None => PredRef::TRUE,
            Some((name, false)) => self.predicate(&Operand::Name(name), &parts)?,
            Some((name, true)) => self.predicate(&Operand::Not(name), &parts)?,
        };
        let operands = &instruction.operands[..];
        let Some(known) = table::find(parts.base()) else { return Err(parts.unsupported()) };
        match known.family {
            Family::Arithmetic => self.arithmetic(&mut parts, operands),
            Family::SpecialFunction => self.special_function(&mut parts, operands),
            Family::CopySign => self.copysign(&mut parts, operands),
            Family::Bits => self.bits(&mut parts, operands),
            Family::Logic => self.logic(&mut parts, operands),
            Family::Shift => self.shift(&mut parts, operands),
            Family::Setp => self.setp(&mut parts, operands),
            Family::Set => self.set(&mut parts, operands),
            Family::Selp => self.selp(&mut parts, operands),
            Family::Slct => self.slct(&mut parts, operands),
            Family::Testp => self.testp(&mut parts, operands),
            Family::Mov => self.mov(&mut parts, operands),
            Family::Cvt => self.cvt(&mut parts, operands),
            Family::Cvta => self.cvta(&mut parts, operands),
            Family::IsSpacep => self.isspacep(&mut parts, operands),
            Family::Load => self.load(&mut parts, operands),
            Family::Store => self.store(&mut parts, operands),
            Family::Atomic => self.atomic(&mut parts, operands),
            Family::CopyAsync => self.copy_async(&mut parts, operands),
            Family::CacheHint => self.cache_hint(&mut parts, operands),
            Family::Mbarrier => self.mbarrier(&mut parts, operands),
            Family::ClusterAddress => self.cluster_address(&mut parts, operands),
            Family::Branch => self.branch(&mut parts, operands),
            Family::Call => self.call(&mut parts, operands),
            Family::Synchronise => self.synchronise(&mut parts, operands),
            Family::Warp => self.warp_operation(&mut parts, operands),
        }
    }

    /// A call becomes the callee's body; one through a pointer a choice among the functions whose
    /// address is taken.
    fn call(&mut self, parts: &mut Parts<'_>, operands: &'m [Operand<'a>]) -> Result<(), LoadError> {
        parts.take("uni");
        parts.finish()?;
        let (returns, rest): (&[Operand<'a>], _) = match operands {
            [Operand::List(returns), rest @ ..] => (returns, rest),
            rest => (&[], rest),
        };
        // What follows the arguments is a prototype or a list of targets: the arguments say enough.
        let (target, arguments): (_, &[Operand<'a>]) = match rest {
            [target @ Operand::Name(_), Operand::List(arguments)]
            | [target @ Operand::Name(_), Operand::List(arguments), Operand::Name(_)] => (target, arguments),
            [target @ Operand::Name(_)] | [target @ Operand::Name(_), Operand::Name(_)] => (target, &[]),
            _ => return Err(parts.operands()),
        };
        let Operand::Name(name) = *target else { return Err(parts.operands()) };
        match name {
            "__assertfail" => return self.assert_fail(parts, arguments),
            "vprintf" => return self.print(parts, returns, arguments),
            "malloc" | "free" => {
                return Err(LoadError::unsupported(self.line, format!("the device's heap (`{name}`)")));
            }
            _ => {}
        }
        // The guard is for the whole body.
        let end = self.new_label();
        if self.guard != PredRef::TRUE {
            self.guard = PredRef(self.guard.0 ^ 1);
            self.emit_extra(Op::Bra { to: end });
            self.guard = PredRef::TRUE;
        }
        self.emit(OpClass::Branch, Op::Nop);
        if let Some(function) = self.function(name) {
            if self.calls.iter().any(|&(other, _)| other == name) || self.calls.len() > MAX_CALLS {
                return Err(LoadError::unsupported(self.line, format!("recursive call of `{name}`")));
            }
            self.inline(function, returns, arguments, parts)?;
        } else {
            let pointer = self.source(target, Type::U64, parts)?;
            self.choose_callee(pointer, returns, arguments, end, parts)?;
        }
        self.place_label(end);
        Ok(())
    }

    /// Calls the function with an address, of those that have such parameters.
    fn choose_callee(
        &mut self,
        pointer: u32,
        returns: &[Operand<'a>],
        arguments: &[Operand<'a>],
        end: u32,
        parts: &Parts<'_>,
    ) -> Result<(), LoadError> {
        for (name, address) in self.symbols.taken_functions() {
            let Some(function) = self.function(name) else { continue };
            let running = self.calls.iter().any(|&(other, _)| other == name) || self.calls.len() > MAX_CALLS;
            if running || !self.fits(&function.params, arguments) || !self.fits(&function.returns, returns) {
                continue;
            }
            let (next, p) = (self.new_label(), self.temp_predicate());
            let b = self.const64(address);
            let (f, k, c, q) = (Compare::Eq, Combine::None, PredRef::TRUE, NONE);
            self.emit_extra(Op::Cmp { ty: CompareType::U64, f, k, c, p, q, a: pointer, b });
            self.guard = PredRef::new(p, true);
            self.emit_extra(Op::Bra { to: next });
            self.guard = PredRef::TRUE;
            self.inline(function, returns, arguments, parts)?;
            self.emit_extra(Op::Bra { to: end });
            self.place_label(next);
            self.check_size()?;
        }
        self.emit_extra(Op::NoFunction { a: pointer });
        Ok(())
    }

    /// Whether operands of a call have the sizes of a function's parameters.
    fn fits(&self, formals: &[Variable<'a>], actuals: &[Operand<'a>]) -> bool {
        formals.len() == actuals.len()
            && formals.iter().zip(actuals).all(|(formal, actual)| match actual {
                Operand::Name(name) => match self.look_up(name) {
                    Some(Symbol::Memory { bytes, .. }) => formal.space == Space::Param && formal.bytes() == Some(bytes),
                    Some(Symbol::Register { ty, .. }) => {
                        formal.space == Space::Register && formal.ty.bytes() == ty.bytes()
                    }
                    _ => false,
                },
                _ => false,
            })
    }

    fn inline(
        &mut self,
        function: &'m Function<'a>,
        returns: &[Operand<'a>],
        arguments: &[Operand<'a>],
        parts: &Parts<'_>,
    ) -> Result<(), LoadError> {
        if function.body.is_none() {
            let text = format!("call of `{}`, which is defined nowhere", function.name);
            return Err(LoadError::unsupported(self.line, text));
        }
        if returns.len() != function.returns.len() || arguments.len() != function.params.len() {
            return Err(parts.operands());
        }
        let after = self.new_label();
        let mut formals = Vec::new();
        for (formal, actual) in function.params.iter().zip(arguments) {
            let symbol = self.bind(formal, actual, parts)?;
            if let Symbol::Register { reg, ty } = symbol {
                let from = self.source(actual, ty, parts)?;
                self.copy(reg, from, ty.bytes() == 8);
            }
            formals.push((formal, symbol));
        }
        let mut results = Vec::new();
        for (formal, actual) in function.returns.iter().zip(returns) {
            let symbol = self.bind(formal, actual, parts)?;
            if let Symbol::Register { reg, ty } = symbol {
                results.push((self.target(actual, ty, parts)?, reg, ty.bytes() == 8));
            }
            formals.push((formal, symbol));
        }
        let (line, location) = (self.line, self.location);
        self.scopes.push(Scope::of_function());
        for (formal, symbol) in formals {
            self.define(formal.name, symbol, formal.line)?;
        }
        self.calls.push((function.name, after));
        self.body(function)?;
        self.calls.pop();
        self.scopes.pop();
        (self.line, self.location) = (line, location);
        self.guard = PredRef::TRUE;
        self.place_label(after);
        for (to, from, wide) in results {
            self.copy(to, from, wide);
        }
        Ok(())
    }

    fn copy(&mut self, d: u32, a: u32, wide: bool) {
        self.emit_extra(if wide {
            Op::Un64 { f: Un64::Mov, m: Mode::PLAIN, d, a }
        } else {
            Op::Un32 { f: Un32::Mov, m: Mode::PLAIN, d, a }
        });
    }

    /// What a formal parameter stands for: the caller's variable, or a register of its own.
    fn bind(&mut self, formal: &Variable<'a>, actual: &Operand<'a>, parts: &Parts<'_>) -> Result<Symbol, LoadError> {
        if formal.space == Space::Register {
            if formal.ty == Type::Pred {
                return Err(LoadError::unsupported(self.line, "predicates as parameters"));
            }
            return Ok(self.register_symbol(formal.ty));
        }
        let Operand::Name(name) = actual else { return Err(parts.operands()) };
        match self.look_up(name) {
            Some(symbol @ Symbol::Memory { space: Space::Local, bytes, .. }) if Some(bytes) >= formal.bytes() => {
                Ok(symbol)
            }
            Some(_) => Err(parts.operands()),
            None => Err(self.unknown(name)),
        }
    }

    /// `vprintf`: the addresses of the format and of the arguments.
    fn print(
        &mut self,
        parts: &Parts<'_>,
        returns: &[Operand<'a>],
        arguments: &[Operand<'a>],
    ) -> Result<(), LoadError> {
        let [Operand::Name(format), Operand::Name(values)] = arguments else { return Err(parts.operands()) };
        let format = self.load_argument(format, Type::U64, parts)?;
        let arguments = self.load_argument(values, Type::U64, parts)?;
        let d = self.temp32();
        self.emit(OpClass::Other, Op::Print { format, arguments, d });
        match returns {
            [] => Ok(()),
            [Operand::Name(name)] => self.store_result(name, d, parts),
            _ => Err(parts.operands()),
        }
    }

    /// Addresses of the assertion's texts and its line, where the caller stored them.
    fn assert_fail(&mut self, parts: &Parts<'_>, arguments: &[Operand<'a>]) -> Result<(), LoadError> {
        let mut loaded = [0; 4];
        for (index, ty) in [Type::U64, Type::U64, Type::U32, Type::U64].into_iter().enumerate() {
            let Some(Operand::Name(name)) = arguments.get(index) else {
                return Err(parts.operands());
            };
            loaded[index] = self.load_argument(name, ty, parts)?;
        }
        let [message, file, line, function] = loaded;
        self.emit(OpClass::Other, Op::Assert { message, file, line, function });
        Ok(())
    }

    /// Resolves labels and gives the kernel's operations away.
    #[allow(clippy::type_complexity, reason = "four parallel lists, taken apart at once")]
    pub(super) fn into_code(mut self) -> Result<(Vec<Inst>, Vec<u32>, Vec<(u32, u32)>, Vec<Content>), LoadError> {
        let labels = &self.labels;
        let resolve = |label: &mut u32| match labels[*label as usize] {
            Some(place) => {
                *label = place;
                Ok(())
            }
            None => Err(LoadError::symbol(0, "a branch to a label that is not there")),
        };
        for inst in &mut self.code {
            match &mut inst.op {
                Op::Bra { to } => resolve(to)?,
                Op::Brx { targets, .. } => targets.iter_mut().try_for_each(resolve)?,
                _ => {}
            }
        }
        Ok((self.code, self.lines, self.locations, self.contents))
    }
}
