//! Text to tokens.

use super::LoadError;

/// A token and its line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: TokenKind<'a>,
    /// Its line, from 1.
    pub line: u32,
}

/// The kinds of token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TokenKind<'a> {
    /// A name, opcode or directive, with its dots: `%r1`, `ld.global.v4.f32`, `.reg`.
    Word(&'a str),
    /// An integer.
    Int(u64),
    /// `0f` and 8 digits.
    F32(u32),
    /// `0d` and 16 digits, or a decimal number.
    F64(u64),
    /// A string without its quotes.
    Text(&'a str),
    /// Anything else, one character.
    Mark(u8),
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

fn continues_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

/// The tokens of a text; comments and white space are gone.
///
/// # Errors
/// An unfinished comment or string, a malformed number, a character PTX does not have.
pub fn tokens(text: &str) -> Result<Vec<Token<'_>>, LoadError> {
    let mut lexer = Lexer { text, bytes: text.as_bytes(), at: 0, line: 1 };
    let mut tokens = Vec::with_capacity(text.len() / 4);
    while let Some(token) = lexer.next()? {
        tokens.push(token);
    }
    Ok(tokens)
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    line: u32,
}

impl<'a> Lexer<'a> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn next(&mut self) -> Result<Option<Token<'a>>, LoadError> {
        self.skip_blank()?;
        let (line, start) = (self.line, self.at);
        let Some(&byte) = self.bytes.get(self.at) else { return Ok(None) };
        let number = byte.is_ascii_digit() || (byte == b'.' && self.peek(1).is_ascii_digit());
        let kind = if number {
            self.number()?
        } else if starts_word(byte) {
            self.at += 1;
            // A directive ends where the next begins: `.reg.b32` is two words, as `ld.param` is not.
            let directive = byte == b'.';
            loop {
                if continues_word(self.peek(0)) && !(directive && self.peek(0) == b'.') {
                    self.at += 1;
                } else if self.peek(0) == b':' && self.peek(1) == b':' {
                    self.at += 2;
                } else {
                    break;
                }
            }
            TokenKind::Word(&self.text[start..self.at])
        } else if byte == b'"' {
            self.at += 1;
            while self.peek(0) != b'"' {
                if self.at >= self.bytes.len() || self.peek(0) == b'\n' {
                    return Err(LoadError::syntax(line, "a string does not end"));
                }
                self.at += 1;
            }
            self.at += 1;
            TokenKind::Text(&self.text[start + 1..self.at - 1])
        } else if byte.is_ascii_graphic() {
            self.at += 1;
            TokenKind::Mark(byte)
        } else {
            return Err(LoadError::syntax(line, format!("unexpected byte {byte:#04x}")));
        };
        Ok(Some(Token { kind, line }))
    }

    fn skip_blank(&mut self) -> Result<(), LoadError> {
        while self.at < self.bytes.len() {
            match (self.peek(0), self.peek(1)) {
                (b'\n', _) => {
                    self.line += 1;
                    self.at += 1;
                }
                (b' ' | b'\t' | b'\r' | 0, _) => self.at += 1,
                (b'/', b'/') => {
                    while self.at < self.bytes.len() && self.peek(0) != b'\n' {
                        self.at += 1;
                    }
                }
                (b'/', b'*') => {
                    let line = self.line;
                    self.at += 2;
                    while (self.peek(0), self.peek(1)) != (b'*', b'/') {
                        if self.at >= self.bytes.len() {
                            return Err(LoadError::syntax(line, "a comment does not end"));
                        }
                        self.line += u32::from(self.peek(0) == b'\n');
                        self.at += 1;
                    }
                    self.at += 2;
                }
                _ => break,
            }
        }
        Ok(())
    }

    fn number(&mut self) -> Result<TokenKind<'a>, LoadError> {
        let (start, line) = (self.at, self.line);
        let radix = match (self.peek(0), self.peek(1)) {
            (b'0', b'x' | b'X') => 16,
            (b'0', b'b' | b'B') => 2,
            (b'0', b'f' | b'F') => return self.bits(8),
            (b'0', b'd' | b'D') => return self.bits(16),
            (b'0', b'0'..=b'9') => 8,
            _ => 10,
        };
        if radix == 16 || radix == 2 {
            self.at += 2;
        }
        while self.peek(0).is_ascii_alphanumeric()
            || self.peek(0) == b'.'
            || (radix != 16 && matches!(self.peek(0), b'+' | b'-') && matches!(self.bytes[self.at - 1], b'e' | b'E'))
        {
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        let wrong = || LoadError::syntax(line, format!("`{text}` is not a number"));
        if radix != 16 && text.contains(['.', 'e', 'E']) {
            let value: f64 = text.parse().map_err(|_| wrong())?;
            return Ok(TokenKind::F64(value.to_bits()));
        }
        let digits = text.trim_end_matches(['u', 'U']);
        let digits = if radix == 16 || radix == 2 { digits.get(2..).unwrap_or("") } else { digits };
        u64::from_str_radix(digits, radix).map(TokenKind::Int).map_err(|_| wrong())
    }

    /// `0f` or `0d` and exactly `digits` hexadecimal digits.
    fn bits(&mut self, digits: usize) -> Result<TokenKind<'a>, LoadError> {
        let start = self.at + 2;
        self.at = start;
        while self.peek(0).is_ascii_alphanumeric() {
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        let bits = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == digits);
        match bits {
            Some(bits) if digits == 8 => Ok(TokenKind::F32(bits as u32)),
            Some(bits) => Ok(TokenKind::F64(bits)),
            None => Err(LoadError::syntax(self.line, format!("`{text}` should be {digits} hexadecimal digits"))),
        }
    }
}
