//! Tokens to a tree.

use super::lexer::{Token, TokenKind, tokens};
use super::tree::{Function, Instruction, Linkage, Space, Statement, Target, Tree, Variable};
use super::{LoadError, Type};

/// How deep braces may nest: names are looked up from level to level.
const MAX_NESTING: u32 = 1 << 14;

/// Registers that one `name<N>` may declare.
const MAX_RANGE: u64 = 1 << 20;

/// Reads a module.
///
/// # Errors
/// The text is not PTX, or uses directives that this parser does not know.
pub fn parse(text: &str) -> Result<Tree<'_>, LoadError> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, at: 0, tree: Tree::default() };
    parser.module()?;
    Ok(parser.tree)
}

/// `.version` and `.target` of a text, without reading the rest.
pub fn header(text: &str) -> (Option<(u32, u32)>, Option<Target>) {
    let mut version = None;
    let mut target = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix(".version") {
            version = parse_version(rest.trim());
        } else if let Some(rest) = line.strip_prefix(".target") {
            target = rest.split([',', ' ', '\t']).find_map(parse_target);
            break;
        } else if line.starts_with('{') {
            break;
        }
    }
    (version, target)
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    let digits = minor.len() - minor.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    Some((major.parse().ok()?, minor[..digits].parse().ok()?))
}

fn parse_target(word: &str) -> Option<Target> {
    let number = word.trim().strip_prefix("sm_")?;
    let digits = number.trim_end_matches(['a', 'f']);
    Some(Target { sm: digits.parse().ok()?, specific: digits.len() < number.len() })
}

pub(super) struct Parser<'t, 'a> {
    pub(super) tokens: &'t [Token<'a>],
    pub(super) at: usize,
    tree: Tree<'a>,
}

impl<'a> Parser<'_, 'a> {
    pub(super) fn line(&self) -> u32 {
        let last = self.tokens.len().saturating_sub(1);
        self.tokens.get(self.at.min(last)).map_or(0, |token| token.line)
    }

    pub(super) fn peek(&self) -> Option<TokenKind<'a>> {
        self.tokens.get(self.at).map(|token| token.kind)
    }

    pub(super) fn peek_mark(&self, mark: u8) -> bool {
        self.peek() == Some(TokenKind::Mark(mark))
    }

    pub(super) fn take_mark(&mut self, mark: u8) -> bool {
        let found = self.peek_mark(mark);
        self.at += usize::from(found);
        found
    }

    pub(super) fn wrong<T>(&self, expected: &str) -> Result<T, LoadError> {
        let found = match self.peek() {
            None => "the end".to_owned(),
            Some(TokenKind::Word(word)) => format!("`{word}`"),
            Some(TokenKind::Mark(mark)) => format!("`{}`", char::from(mark)),
            Some(TokenKind::Text(text)) => format!("\"{text}\""),
            Some(_) => "a number".to_owned(),
        };
        Err(LoadError::syntax(self.line(), format!("expected {expected}, found {found}")))
    }

    pub(super) fn mark(&mut self, mark: u8) -> Result<(), LoadError> {
        if self.take_mark(mark) {
            return Ok(());
        }
        self.wrong(&format!("`{}`", char::from(mark)))
    }

    pub(super) fn peek_word(&self) -> Option<&'a str> {
        match self.peek() {
            Some(TokenKind::Word(word)) => Some(word),
            _ => None,
        }
    }

    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek_word() == Some(word);
        self.at += usize::from(found);
        found
    }

    pub(super) fn name(&mut self) -> Result<&'a str, LoadError> {
        match self.peek_word() {
            Some(word) if !word.starts_with('.') => {
                self.at += 1;
                Ok(word)
            }
            _ => self.wrong("a name"),
        }
    }

    pub(super) fn int(&mut self) -> Result<u64, LoadError> {
        match self.peek() {
            Some(TokenKind::Int(value)) => {
                self.at += 1;
                Ok(value)
            }
            _ => self.wrong("an integer"),
        }
    }

    fn small(&mut self) -> Result<u32, LoadError> {
        let line = self.line();
        let value = self.int()?;
        u32::try_from(value).map_err(|_| LoadError::syntax(line, format!("{value} is too large here")))
    }

    fn triple(&mut self) -> Result<[u32; 3], LoadError> {
        let mut values = [self.small()?, 1, 1];
        for value in &mut values[1..] {
            if !self.take_mark(b',') {
                break;
            }
            *value = self.small()?;
        }
        Ok(values)
    }

    fn module(&mut self) -> Result<(), LoadError> {
        while let Some(kind) = self.peek() {
            let TokenKind::Word(word) = kind else {
                if self.take_mark(b';') {
                    continue;
                }
                return self.wrong("a directive");
            };
            match word {
                ".version" => self.version()?,
                ".target" => self.target()?,
                ".address_size" => {
                    self.at += 1;
                    let line = self.line();
                    if self.int()? != 64 {
                        return Err(LoadError::unsupported(line, "addresses of 32 bits"));
                    }
                }
                ".file" => self.file()?,
                ".section" => self.section()?,
                ".pragma" => self.skip_to_semicolon()?,
                _ => self.declaration()?,
            }
        }
        if self.tree.version == (0, 0) {
            return Err(LoadError::syntax(0, "there is no .version directive"));
        }
        Ok(())
    }

    fn version(&mut self) -> Result<(), LoadError> {
        self.at += 1;
        let line = self.line();
        // The lexer reads `8.1` as a decimal number.
        let Some(TokenKind::F64(bits)) = self.peek() else { return self.wrong("a version") };
        self.at += 1;
        let text = format!("{}", f64::from_bits(bits));
        let version = parse_version(&text).or_else(|| Some((text.parse().ok()?, 0)));
        self.tree.version = version
            .filter(|&(major, _)| (1..100).contains(&major))
            .ok_or_else(|| LoadError::syntax(line, format!("`{text}` is not a PTX version")))?;
        Ok(())
    }

    fn target(&mut self) -> Result<(), LoadError> {
        self.at += 1;
        loop {
            let line = self.line();
            let word = self.name()?;
            if let Some(target) = parse_target(word) {
                self.tree.target = target;
            } else if !matches!(word, "debug" | "texmode_unified" | "texmode_independent") {
                return Err(LoadError::unsupported(line, format!("target `{word}`")));
            }
            if !self.take_mark(b',') {
                return Ok(());
            }
        }
    }

    fn file(&mut self) -> Result<(), LoadError> {
        self.at += 1;
        let index = self.small()?;
        let Some(TokenKind::Text(name)) = self.peek() else { return self.wrong("a file name") };
        self.at += 1;
        while self.take_mark(b',') {
            self.int()?;
        }
        self.tree.files.insert(index, name.to_owned());
        Ok(())
    }

    /// Debug information: nothing here executes it.
    fn section(&mut self) -> Result<(), LoadError> {
        while !self.peek_mark(b'{') {
            if self.peek().is_none() {
                return self.wrong("`{`");
            }
            self.at += 1;
        }
        while !self.take_mark(b'}') {
            if self.peek().is_none() {
                return self.wrong("`}`");
            }
            self.at += 1;
        }
        Ok(())
    }

    fn skip_to_semicolon(&mut self) -> Result<(), LoadError> {
        while !self.take_mark(b';') {
            if self.peek().is_none() {
                return self.wrong("`;`");
            }
            self.at += 1;
        }
        Ok(())
    }

    fn declaration(&mut self) -> Result<(), LoadError> {
        let mut linkage = Linkage::Private;
        loop {
            linkage = match self.peek_word() {
                Some(".visible") => Linkage::Visible,
                Some(".extern") => Linkage::Extern,
                Some(".weak") => Linkage::Weak,
                Some(".common") => Linkage::Common,
                _ => break,
            };
            self.at += 1;
        }
        match self.peek_word() {
            Some(".entry") => self.function(linkage, true),
            Some(".func") => self.function(linkage, false),
            Some(".global" | ".const" | ".shared") => {
                let variables = self.variables(linkage)?;
                self.tree.variables.extend(variables);
                Ok(())
            }
            Some(word) if word.starts_with('.') => {
                Err(LoadError::unsupported(self.line(), format!("directive `{word}` here")))
            }
            _ => self.wrong("a declaration"),
        }
    }

    fn function(&mut self, linkage: Linkage, entry: bool) -> Result<(), LoadError> {
        let line = self.line();
        self.at += 1;
        if self.take_word(".attribute") {
            self.mark(b'(')?;
            while !self.take_mark(b')') {
                if self.peek().is_none() {
                    return self.wrong("`)`");
                }
                self.at += 1;
            }
        }
        let returns = if self.peek_mark(b'(') { self.params()? } else { Vec::new() };
        let name = self.name()?;
        let params = if self.peek_mark(b'(') { self.params()? } else { Vec::new() };
        let mut function = Function {
            entry,
            name,
            linkage,
            returns,
            params,
            body: None,
            max_threads: None,
            required_threads: None,
            min_blocks: 0,
            cluster: None,
            line,
        };
        loop {
            if self.take_mark(b';') {
                break;
            }
            if self.take_mark(b'{') {
                function.body = Some(self.body()?);
                break;
            }
            match self.peek_word() {
                Some(".maxntid") => {
                    self.at += 1;
                    function.max_threads = Some(self.triple()?);
                }
                Some(".reqntid") => {
                    self.at += 1;
                    function.required_threads = Some(self.triple()?);
                }
                Some(".reqnctapercluster") => {
                    self.at += 1;
                    function.cluster = Some(self.triple()?);
                }
                Some(".minnctapersm") => {
                    self.at += 1;
                    function.min_blocks = self.small()?;
                }
                Some(".maxnreg" | ".maxnctapersm" | ".maxclusterrank" | ".abi_preserve") => {
                    self.at += 1;
                    self.int()?;
                }
                Some(".noreturn" | ".explicitcluster" | ".blocksareclusters") => self.at += 1,
                Some(".pragma") => self.skip_to_semicolon()?,
                _ => return self.wrong("a body"),
            }
        }
        self.tree.functions.push(function);
        Ok(())
    }

    fn params(&mut self) -> Result<Vec<Variable<'a>>, LoadError> {
        self.mark(b'(')?;
        let mut params = Vec::new();
        while !self.take_mark(b')') {
            if !params.is_empty() {
                self.mark(b',')?;
            }
            params.push(self.variable(Linkage::Private)?.0);
        }
        Ok(params)
    }

    /// A declaration with its semicolon; one statement may declare several names.
    fn variables(&mut self, linkage: Linkage) -> Result<Vec<Variable<'a>>, LoadError> {
        let (first, vector) = self.variable(linkage)?;
        let mut variables = vec![first];
        while self.take_mark(b',') {
            let next = Variable { init: Vec::new(), ..variables[0].clone() };
            variables.push(self.declarator(next, vector)?);
        }
        self.mark(b';')?;
        Ok(variables)
    }

    /// One declaration, and the vector width that its type gives to further names.
    fn variable(&mut self, linkage: Linkage) -> Result<(Variable<'a>, u64), LoadError> {
        let line = self.line();
        let space = match self.peek_word() {
            Some(".reg") => Space::Register,
            Some(".param" | ".param::entry" | ".param::func") => Space::Param,
            Some(".global") => Space::Global,
            Some(".const") => Space::Const,
            Some(".shared" | ".shared::cta") => Space::Shared,
            Some(".local") => Space::Local,
            _ => return self.wrong("a state space"),
        };
        self.at += 1;
        let (mut align, mut ty, mut vector) = (None, None, 1);
        while let Some(word) = self.peek_word().filter(|word| word.starts_with('.')) {
            self.at += 1;
            match word {
                ".align" => align = Some(self.small()?),
                ".ptr" => {
                    // What a pointer parameter points to: a promise to the compiler, no more.
                    while let Some(word) = self.peek_word().filter(|word| word.starts_with('.')) {
                        self.at += 1;
                        if word == ".align" {
                            self.int()?;
                        }
                    }
                }
                ".v2" => vector = 2,
                ".v4" => vector = 4,
                ".attribute" => {
                    return Err(LoadError::unsupported(line, "variables with attributes"));
                }
                _ => match Type::parse(&word[1..]) {
                    Some(found) if ty.is_none() => ty = Some(found),
                    _ => {
                        return Err(LoadError::unsupported(line, format!("`{word}` variables")));
                    }
                },
            }
        }
        let Some(ty) = ty else { return self.wrong("a type") };
        let natural = ty.bytes().max(1) * vector as u32;
        let align = align.unwrap_or(natural);
        if !align.is_power_of_two() || align > 1 << 16 {
            return Err(LoadError::syntax(line, format!("alignment {align}")));
        }
        let variable = Variable { space, linkage, align, ty, name: "", range: None, count: 1, init: Vec::new(), line };
        Ok((self.declarator(variable, vector)?, vector))
    }

    /// The part of a declaration after its type: name, dimensions, initial value.
    fn declarator(&mut self, mut variable: Variable<'a>, vector: u64) -> Result<Variable<'a>, LoadError> {
        variable.name = self.name()?;
        variable.range = None;
        let line = self.line();
        let too_large = || LoadError::syntax(line, "the variable is too large");
        if self.take_mark(b'<') {
            let count = self.int()?;
            if count > MAX_RANGE {
                return Err(too_large());
            }
            variable.range = Some(count as u32);
            self.mark(b'>')?;
        }
        let mut dimensions = Vec::new();
        while self.take_mark(b'[') {
            dimensions.push(if self.peek_mark(b']') { None } else { Some(self.int()?) });
            self.mark(b']')?;
        }
        if vector > 1 {
            dimensions.push(Some(vector));
        }
        if self.take_mark(b'=') {
            variable.init = self.initialiser(variable.ty, &dimensions)?;
            if let Some(first @ None) = dimensions.first_mut() {
                *first = Some(variable.init.len() as u64);
            }
        }
        let count = dimensions.iter().try_fold(1u64, |product, dimension| product.checked_mul(dimension.unwrap_or(0)));
        variable.count = count.ok_or_else(too_large)?;
        if variable.bytes().is_none() {
            return Err(too_large());
        }
        Ok(variable)
    }

    fn body(&mut self) -> Result<Vec<Statement<'a>>, LoadError> {
        let mut body = Vec::new();
        let mut depth = 0;
        loop {
            let line = self.line();
            match self.peek() {
                None => return self.wrong("`}`"),
                Some(TokenKind::Mark(b'{')) => {
                    self.at += 1;
                    depth += 1;
                    if depth > MAX_NESTING {
                        return Err(LoadError::unsupported(line, "braces that deep"));
                    }
                    body.push(Statement::Open);
                }
                Some(TokenKind::Mark(b'}')) => {
                    self.at += 1;
                    if depth == 0 {
                        return Ok(body);
                    }
                    depth -= 1;
                    body.push(Statement::Close);
                }
                Some(TokenKind::Mark(b';')) => self.at += 1,
                Some(TokenKind::Mark(b'@')) => {
                    self.at += 1;
                    let negated = self.take_mark(b'!');
                    let guard = Some((self.name()?, negated));
                    body.push(Statement::Instruction(self.instruction(guard)?));
                }
                Some(TokenKind::Word(word)) if word.starts_with('.') => {
                    self.body_directive(word, &mut body)?;
                }
                Some(TokenKind::Word(word)) => {
                    let next = self.tokens.get(self.at + 1).map(|token| token.kind);
                    if next == Some(TokenKind::Mark(b':')) {
                        self.at += 2;
                        self.label(word, line, &mut body)?;
                    } else {
                        body.push(Statement::Instruction(self.instruction(None)?));
                    }
                }
                Some(_) => return self.wrong("a statement"),
            }
        }
    }

    fn body_directive(&mut self, word: &'a str, body: &mut Vec<Statement<'a>>) -> Result<(), LoadError> {
        match word {
            ".loc" => {
                self.at += 1;
                let (file, line) = (self.small()?, self.small()?);
                self.int()?;
                while self.take_mark(b',') {
                    // `function_name LABEL+OFFSET` and `inlined_at FILE LINE COLUMN`.
                    self.name()?;
                    while matches!(self.peek(), Some(TokenKind::Int(_) | TokenKind::Mark(b'+')))
                        || self.peek_word().is_some_and(|word| word.starts_with('$'))
                            && self.tokens.get(self.at + 1).map(|token| token.kind) != Some(TokenKind::Mark(b':'))
                    {
                        self.at += 1;
                    }
                }
                body.push(Statement::Location(file, line));
                Ok(())
            }
            ".pragma" => self.skip_to_semicolon(),
            ".reg" | ".local" | ".shared" | ".param" | ".global" | ".const" => {
                let variables = self.variables(Linkage::Private)?;
                body.extend(variables.into_iter().map(Statement::Variable));
                Ok(())
            }
            _ => Err(LoadError::unsupported(self.line(), format!("directive `{word}`"))),
        }
    }

    fn label(&mut self, name: &'a str, line: u32, body: &mut Vec<Statement<'a>>) -> Result<(), LoadError> {
        match self.peek_word() {
            Some(".branchtargets") => {
                self.at += 1;
                let mut targets = vec![self.name()?];
                while self.take_mark(b',') {
                    targets.push(self.name()?);
                }
                self.mark(b';')?;
                body.push(Statement::Targets(name, targets, line));
                Ok(())
            }
            // They describe indirect calls, which `lower` refuses where they are made.
            Some(".callprototype" | ".calltargets") => self.skip_to_semicolon(),
            _ => {
                body.push(Statement::Label(name, line));
                Ok(())
            }
        }
    }

    fn instruction(&mut self, guard: Option<(&'a str, bool)>) -> Result<Instruction<'a>, LoadError> {
        let line = self.line();
        let opcode = self.name()?;
        let mut operands = Vec::new();
        while !self.take_mark(b';') {
            if !operands.is_empty() {
                self.mark(b',')?;
            }
            operands.push(self.operand(0)?);
        }
        Ok(Instruction { guard, opcode, operands, line })
    }
}
