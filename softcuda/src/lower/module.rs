//! A module's variables and kernels.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::exec::CODE_WINDOW;
use crate::memory::Memory;
use crate::ptx::{Function, Init, Linkage, LoadError, LoadErrorKind, Operand, Space, Statement, Tree, Variable};

use super::allocate::{Frame, allocate};
use super::context::{Lowerer, Scope, Symbol};
use super::op::Inst;

/// Shared memory that statically declared variables may take: 16 MiB is beyond any device.
const MAX_SHARED: u64 = 1 << 24;
/// Local memory of a thread, as on NVIDIA's devices.
const MAX_LOCAL: u64 = 512 << 10;
/// Bytes of a module's variables in device memory. They are written when it is loaded.
const MAX_GLOBAL: u64 = 1 << 30;
/// Bytes of kernel parameters, as on NVIDIA's devices.
const MAX_PARAM: u64 = 32_764;

/// One parameter of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// Where it begins in the parameter block.
    pub offset: u32,
    /// Its size in bytes.
    pub size: u32,
    /// Its alignment in bytes.
    pub align: u32,
}

/// A kernel, ready to run.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its operations.
    pub code: Vec<Inst>,
    /// The PTX line of each operation.
    pub lines: Vec<u32>,
    /// File index and line of the source of each operation; file 0 where unknown.
    pub locations: Vec<(u32, u32)>,
    /// Its registers.
    pub frame: Frame,
    /// Number of predicates.
    pub predicates: u32,
    /// Operations that access memory are numbered up to this.
    pub sites: u32,
    /// Its parameters.
    pub params: Vec<Param>,
    /// Size of the parameter block.
    pub param_bytes: u32,
    /// Bytes of statically declared shared memory.
    pub static_shared: u32,
    /// Bytes of local memory of a thread.
    pub local_bytes: u32,
    /// `.maxntid`.
    pub max_threads: Option<[u32; 3]>,
    /// `.reqntid`.
    pub required_threads: Option<[u32; 3]>,
    /// `.minnctapersm`.
    pub min_blocks: u32,
    /// `.reqnctapercluster`.
    pub cluster: Option<[u32; 3]>,
}

/// A variable of the module in device memory.
#[derive(Clone, Debug)]
pub struct Global {
    /// Its name.
    pub name: String,
    /// Its device address.
    pub address: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A module, ready to run.
#[derive(Debug)]
pub struct Program {
    /// Kernels in the order of the text.
    pub entries: Vec<Entry>,
    /// Variables in device memory.
    pub globals: Vec<Global>,
    /// Names of source files by index.
    pub files: HashMap<u32, String>,
}

/// What names stand for in the whole module.
#[derive(Default)]
pub(super) struct Symbols<'a> {
    memory: HashMap<&'a str, Symbol>,
    functions: HashMap<&'a str, usize>,
    /// Addresses of the functions whose address is taken.
    taken: BTreeMap<&'a str, u64>,
    /// Module-level shared variables, by their place in the tree.
    shared: HashMap<&'a str, usize>,
}

impl<'a> Symbols<'a> {
    /// The address that stands for a function.
    pub(super) fn address_of_function(&self, name: &str) -> Option<u64> {
        self.taken.get(name).copied()
    }

    /// The functions whose address is taken, with it.
    pub(super) fn taken_functions(&self) -> impl Iterator<Item = (&'a str, u64)> {
        self.taken.iter().map(|(&name, &address)| (name, address))
    }

    /// Gives an address to every function that is named other than to be called.
    fn take_addresses(&mut self, tree: &Tree<'a>) {
        let initial = tree.variables.iter().flat_map(|variable| &variable.init).filter_map(|init| match init {
            Init::Address { name, .. } => Some(*name),
            Init::Bits(_) => None,
        });
        let statements = tree.functions.iter().filter_map(|function| function.body.as_ref()).flatten();
        let moved = statements.filter_map(|statement| match statement {
            Statement::Instruction(instruction) => match &instruction.operands[..] {
                [_, Operand::Name(name)] if instruction.opcode.starts_with("mov.") => Some(*name),
                _ => None,
            },
            _ => None,
        });
        for name in initial.chain(moved) {
            if self.functions.contains_key(name) {
                let next = CODE_WINDOW + 16 * (self.taken.len() as u64 + 1);
                self.taken.entry(name).or_insert(next);
            }
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<Symbol> {
        self.memory.get(name).copied()
    }

    pub(super) fn function(&self, name: &str) -> Option<usize> {
        self.functions.get(name).copied()
    }
}

/// Makes a module ready to run; its variables are allocated in `memory` and initialised.
///
/// # Errors
/// What the module asks for is not supported, its names do not fit together, or memory is
/// exhausted. Nothing stays allocated then.
pub fn lower(tree: &Tree<'_>, memory: &Memory) -> Result<Program, LoadError> {
    let mut globals = Vec::new();
    let result = lower_into(tree, memory, &mut globals);
    if result.is_err() {
        for global in &globals {
            // It was allocated a moment ago; there is nothing to do if it is gone already.
            let _ = memory.free(global.address);
        }
    }
    let entries = result?;
    Ok(Program { entries, globals, files: tree.files.clone() })
}

fn lower_into(tree: &Tree<'_>, memory: &Memory, globals: &mut Vec<Global>) -> Result<Vec<Entry>, LoadError> {
    let mut symbols = Symbols::default();
    for (index, function) in tree.functions.iter().enumerate() {
        match symbols.functions.get(function.name) {
            // A definition replaces its declarations.
            Some(&known) if function.body.is_some() && tree.functions[known].body.is_some() => {
                let text = format!("`{}` is defined twice", function.name);
                return Err(LoadError::symbol(function.line, text));
            }
            Some(&known) if tree.functions[known].body.is_some() => {}
            _ => {
                symbols.functions.insert(function.name, index);
            }
        }
    }
    symbols.take_addresses(tree);
    for (index, variable) in tree.variables.iter().enumerate() {
        declare(tree, index, variable, &mut symbols, memory, globals)?;
    }
    for variable in &tree.variables {
        initialise(variable, &symbols, memory)?;
    }
    tree.functions
        .iter()
        .filter(|function| function.entry && function.body.is_some())
        .map(|function| lower_entry(tree, &symbols, function))
        .collect()
}

fn declare<'a>(
    tree: &Tree<'a>,
    index: usize,
    variable: &Variable<'a>,
    symbols: &mut Symbols<'a>,
    memory: &Memory,
    globals: &mut Vec<Global>,
) -> Result<(), LoadError> {
    let (name, line) = (variable.name, variable.line);
    let twice = || LoadError::symbol(line, format!("`{name}` is declared twice"));
    if variable.range.is_some() {
        return Err(LoadError::syntax(line, "only registers have ranges"));
    }
    if variable.space == Space::Shared {
        if symbols.memory.contains_key(name) {
            return Err(twice());
        }
        match symbols.shared.get(name) {
            Some(&known) if tree.variables[known].linkage != Linkage::Extern => return Err(twice()),
            _ => symbols.shared.insert(name, index),
        };
        return Ok(());
    }
    if variable.linkage == Linkage::Extern {
        let defined = tree
            .variables
            .iter()
            .any(|other| other.name == name && other.space != Space::Shared && other.linkage != Linkage::Extern);
        if defined {
            return Ok(());
        }
        let text = format!("the external variable `{name}` is defined nowhere");
        return Err(LoadError::symbol(line, text));
    }
    if symbols.memory.contains_key(name) || symbols.shared.contains_key(name) {
        return Err(twice());
    }
    let bytes = variable.bytes().unwrap_or(0);
    let held: u64 = globals.iter().map(|global| global.bytes).sum();
    if held.saturating_add(bytes) > MAX_GLOBAL {
        let text = format!("no room for `{name}`: a module's variables may have a GiB");
        return Err(LoadError::new(LoadErrorKind::OutOfMemory, line, text));
    }
    let (address, size) = (allocate_variable(variable, bytes.max(1), memory)?, bytes);
    globals.push(Global { name: name.to_owned(), address, bytes: size });
    let space = variable.space;
    symbols.memory.insert(name, Symbol::Memory { space, address, bytes: size });
    Ok(())
}

fn allocate_variable(variable: &Variable<'_>, bytes: u64, memory: &Memory) -> Result<u64, LoadError> {
    if variable.align > 512 {
        return Err(LoadError::unsupported(variable.line, "alignment above 512"));
    }
    let result = if variable.space == Space::Const { memory.alloc_read_only(bytes) } else { memory.alloc(bytes) };
    result.map_err(|error| {
        let text = format!("no room for `{}`: {error}", variable.name);
        LoadError::new(LoadErrorKind::OutOfMemory, variable.line, text)
    })
}

/// Zeros, then the initial values: what the text does not give is 0.
fn initialise(variable: &Variable<'_>, symbols: &Symbols<'_>, memory: &Memory) -> Result<(), LoadError> {
    let Some(Symbol::Memory { address, bytes, .. }) = symbols.get(variable.name) else {
        return Ok(());
    };
    let line = variable.line;
    let size = variable.ty.bytes() as usize;
    if variable.linkage == Linkage::Extern {
        return Ok(());
    }
    if (variable.init.len() * size) as u64 > bytes {
        return Err(LoadError::syntax(line, "too many initial values"));
    }
    let mut image = Vec::with_capacity(variable.init.len() * size);
    for init in &variable.init {
        let bits = match init {
            Init::Bits(bits) => *bits,
            Init::Address { name, addend, mask, .. } => {
                // Global and constant addresses are generic addresses here.
                let address = match symbols.get(name) {
                    Some(Symbol::Memory { address, .. }) => Some(address),
                    _ => symbols.address_of_function(name),
                };
                let Some(address) = address else {
                    let text = format!("the address of `{name}` as an initial value");
                    return Err(LoadError::unsupported(line, text));
                };
                (address.wrapping_add(*addend as u64) & mask) >> mask.trailing_zeros().min(63)
            }
        };
        image.extend_from_slice(&bits.to_le_bytes()[..size.min(8)]);
        image.extend(std::iter::repeat_n(0, size.saturating_sub(8)));
    }
    let failed = |fault: crate::fault::Fault| LoadError::new(LoadErrorKind::OutOfMemory, line, fault.to_string());
    memory.fill(address, &[0], bytes).map_err(failed)?;
    memory.write(address, &image).map_err(failed)
}

/// Shared variables that a function uses, in its own body and in what it calls.
struct SharedUse<'a, 'm> {
    tree: &'m Tree<'a>,
    symbols: &'m Symbols<'a>,
    functions: HashSet<&'a str>,
    names: Vec<&'a str>,
    seen: HashSet<&'a str>,
    bodies: Vec<&'m Variable<'a>>,
}

impl<'a, 'm> SharedUse<'a, 'm> {
    fn function(&mut self, function: &'m Function<'a>) {
        // An explicit stack: the depth of calls is the text's choice.
        let mut stack = vec![function];
        while let Some(function) = stack.pop() {
            if !self.functions.insert(function.name) {
                continue;
            }
            for statement in function.body.iter().flatten() {
                match statement {
                    Statement::Variable(variable) if variable.space == Space::Shared => {
                        self.bodies.push(variable);
                    }
                    Statement::Instruction(instruction) => {
                        for operand in &instruction.operands {
                            self.operand(operand, &mut stack);
                        }
                        let named =
                            |o: &Operand<'_>| matches!(o, Operand::Name(n) if self.symbols.function(n).is_some());
                        if instruction.opcode.starts_with("call") && !instruction.operands.iter().any(named) {
                            let taken =
                                self.symbols.taken_functions().filter_map(|(name, _)| self.symbols.function(name));
                            stack.extend(taken.map(|index| &self.tree.functions[index]));
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn operand(&mut self, operand: &Operand<'a>, stack: &mut Vec<&'m Function<'a>>) {
        match operand {
            Operand::Name(name) | Operand::Offset(name, _) => {
                if self.symbols.shared.contains_key(name) && self.seen.insert(name) {
                    self.names.push(name);
                } else if let Some(index) = self.symbols.function(name) {
                    stack.push(&self.tree.functions[index]);
                }
            }
            Operand::Address(base, _) => self.operand(base, stack),
            Operand::Vector(list) | Operand::List(list) => {
                list.iter().for_each(|operand| self.operand(operand, stack));
            }
            _ => {}
        }
    }
}

/// Places the kernel's shared variables: static ones first, then the dynamic part.
fn place_shared<'a, 'm>(lowerer: &mut Lowerer<'a, 'm>, function: &'m Function<'a>) -> Result<u32, LoadError> {
    let (tree, symbols) = (lowerer.tree, lowerer.symbols);
    let mut used = SharedUse {
        tree,
        symbols,
        functions: HashSet::new(),
        names: Vec::new(),
        seen: HashSet::new(),
        bodies: Vec::new(),
    };
    used.function(function);
    let mut end = 0u64;
    let mut dynamic = Vec::new();
    let mut dynamic_align = 16;
    let module = used.names.iter().filter_map(|name| Some(&tree.variables[*symbols.shared.get(name)?]));
    let variables: Vec<(bool, &Variable<'a>)> =
        module.map(|v| (true, v)).chain(used.bodies.iter().map(|v| (false, *v))).collect();
    for (of_module, variable) in variables {
        if variable.linkage == Linkage::Extern || variable.count == 0 {
            dynamic_align = dynamic_align.max(u64::from(variable.align));
            dynamic.push((of_module, variable));
            continue;
        }
        let bytes = variable.bytes().unwrap_or(u64::MAX);
        let at = end.next_multiple_of(u64::from(variable.align));
        end = at.saturating_add(bytes);
        if end > MAX_SHARED {
            return Err(LoadError::unsupported(variable.line, "shared memory of that size"));
        }
        place(lowerer, of_module, variable, at, bytes);
    }
    let start = end.next_multiple_of(dynamic_align);
    for (of_module, variable) in &dynamic {
        place(lowerer, *of_module, variable, start, MAX_SHARED);
    }
    Ok(if dynamic.is_empty() { end } else { start } as u32)
}

fn place<'a>(lowerer: &mut Lowerer<'a, '_>, of_module: bool, variable: &Variable<'a>, at: u64, bytes: u64) {
    if of_module {
        lowerer.module_shared.insert(variable.name, (at, bytes));
    } else {
        lowerer.shared.insert(std::ptr::from_ref(variable), at);
    }
}

fn lower_entry<'a>(tree: &Tree<'a>, symbols: &Symbols<'a>, function: &Function<'a>) -> Result<Entry, LoadError> {
    let mut lowerer = Lowerer::new(tree, symbols);
    lowerer.line = function.line;
    let static_shared = place_shared(&mut lowerer, function)?;
    lowerer.scopes.push(Scope::of_function());
    let mut params = Vec::new();
    let mut end = 0u64;
    for variable in &function.params {
        let bytes = variable.bytes().unwrap_or(u64::MAX);
        let offset = end.next_multiple_of(u64::from(variable.align));
        end = offset.saturating_add(bytes);
        if end > MAX_PARAM {
            return Err(LoadError::unsupported(variable.line, "that many bytes of parameters"));
        }
        let symbol = Symbol::Memory { space: Space::Param, address: offset, bytes };
        lowerer.define(variable.name, symbol, variable.line)?;
        params.push(Param { offset: offset as u32, size: bytes as u32, align: variable.align });
    }
    lowerer.entry_body(function)?;
    if lowerer.local_bytes > MAX_LOCAL {
        return Err(LoadError::unsupported(function.line, "that much local memory"));
    }
    let local_bytes = lowerer.local_bytes as u32;
    let (predicates, sites) = (lowerer.predicates, lowerer.sites);
    let (mut code, lines, locations, contents) = lowerer.into_code()?;
    let frame =
        allocate(&mut code, &contents).ok_or_else(|| LoadError::unsupported(function.line, "a kernel of that size"))?;
    Ok(Entry {
        name: function.name.to_owned(),
        code,
        lines,
        locations,
        frame,
        predicates,
        sites,
        params,
        param_bytes: end as u32,
        static_shared,
        local_bytes,
        max_threads: function.max_threads,
        required_threads: function.required_threads,
        min_blocks: function.min_blocks,
        cluster: function.cluster,
    })
}
