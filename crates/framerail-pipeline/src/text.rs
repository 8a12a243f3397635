//! Pipelines as text: `read in.mp4 start=5 ! infer centerface ! blur ! write out.mp4`.
//!
//! Words are separated by white space, including line feeds. `!` as a separate word separates stages. The first word of a stage is
//! its name, the others are arguments and options:
//!
//! - `key=value` is an option when the key is a letter or `_` followed by letters, digits, `_` or `-`.
//! - Anything else is an argument. To pass a path such as `a=b.mp4` as an argument, write `./a=b.mp4` or `'a=b.mp4'`, or put it after
//!   the word `--`, after which every word of the stage is an argument.
//! - `( stage ! stage )`, with parentheses as their own words, is a branch of the stage before it, such as `tee`:
//!   `read in.mp4 ! tee ( save boxes.jsonl ) ( null ) ! write out.mp4`. Branches may hold branches, up to 16 deep.
//!
//! Quoting is that of a shell: nothing is special in `'...'`; in `"..."` a backslash makes `"` and `\` ordinary;
//! outside of quotes it makes any character ordinary.

use std::sync::Arc;

use crate::{
    description::{Chain, Description, OptionDescription, Origin, Span, StageDescription, Value, option_key_len},
    diagnostic::Diagnostic,
};

/// Maximum nesting depth of branches.
const MAX_DEPTH: usize = 16;

impl Description {
    /// Reads a pipeline text; see [`crate::text`].
    ///
    /// # Errors
    /// The first syntax error, with its position. Does not check whether stages and options exist.
    pub fn parse(text: &str) -> Result<Self, Diagnostic> {
        let origin = Origin::text(text);
        let words = split_words(&origin)?;
        let mut parser = Parser { origin: &origin, words: &words, next: 0 };
        let chain = parser.chain(None, 0)?;
        Ok(Self { chain, origin, ..Self::default() })
    }

    /// A pipeline created by a program; messages show it as text.
    pub fn from_stages(stages: Vec<StageDescription>) -> Self {
        let made = Self { chain: Chain { stages, span: None }, ..Self::default() };
        match Self::parse(&made.to_string()) {
            Ok(parsed) if parsed == made => parsed,
            _ => made,
        }
    }
}

impl std::str::FromStr for Description {
    type Err = Diagnostic;

    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        Self::parse(text)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Separator,
    Open,
    Close,
    /// `--`
    Literal,
}

struct Word<'a> {
    raw: &'a str,
    text: String,
    span: Span,
}

impl Word<'_> {
    fn sign(&self) -> Option<Sign> {
        match self.raw {
            "!" => Some(Sign::Separator),
            "(" => Some(Sign::Open),
            ")" => Some(Sign::Close),
            "--" => Some(Sign::Literal),
            _ => None,
        }
    }

    fn value(&self) -> Value {
        Value::new(self.text.clone(), self.span)
    }

    /// Parses the word as an option. The key is unquoted ASCII, so it has the same length in the text and in the raw word.
    fn option(&self) -> Option<OptionDescription> {
        let length = option_key_len(self.raw)?;
        let Span { start, end } = self.span;
        let key = Value::new(self.text.get(..length)?, Span::new(start, start + length));
        let value = Value::new(self.text.get(length + 1..)?, Span::new(start + length + 1, end));
        Some(OptionDescription { key, value })
    }
}

fn split_words(origin: &Arc<Origin>) -> Result<Vec<Word<'_>>, Diagnostic> {
    let source = origin.text.as_str();
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(rest) = source.get(at..).filter(|rest| !rest.is_empty()) {
        match rest.chars().next() {
            Some(space) if space.is_whitespace() => at += space.len_utf8(),
            _ => {
                let word = read_word(origin, at)?;
                at = word.span.end;
                words.push(word);
            }
        }
    }
    Ok(words)
}

fn read_word(origin: &Arc<Origin>, start: usize) -> Result<Word<'_>, Diagnostic> {
    let source = origin.text.as_str();
    let rest = source.get(start..).unwrap_or_default();
    let mut text = String::new();
    let mut quote: Option<(char, usize)> = None;
    let mut characters = rest.char_indices().peekable();
    let mut end = source.len();
    while let Some((offset, character)) = characters.next() {
        match (quote, character) {
            (None, space) if space.is_whitespace() => {
                end = start + offset;
                break;
            }
            (None, '\'' | '"') => quote = Some((character, start + offset)),
            (Some((open, _)), close) if open == close => quote = None,
            (None, '\\') => match characters.next() {
                Some((_, escaped)) => text.push(escaped),
                None => {
                    let span = Span::new(start + offset, source.len());
                    let error = Diagnostic::new(origin, Some(span), "nothing follows this backslash");
                    return Err(error.help(r"write `\\` for a backslash, or put the word in '...'"));
                }
            },
            (Some(('"', _)), '\\') if matches!(characters.peek(), Some((_, '"' | '\\'))) => {
                text.extend(characters.next().map(|(_, escaped)| escaped));
            }
            (_, other) => text.push(other),
        }
    }
    if let Some((mark, at)) = quote {
        let error = Diagnostic::new(origin, Some(Span::new(at, source.len())), format!("this quotation has no closing {mark}"));
        return Err(error.help(format!(r"close it, or write `\{mark}` for the character itself")));
    }
    let span = Span::new(start, end);
    Ok(Word { raw: source.get(start..end).unwrap_or_default(), text, span })
}

struct Parser<'a> {
    origin: &'a Arc<Origin>,
    words: &'a [Word<'a>],
    next: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Word<'a>> {
        self.words.get(self.next)
    }

    fn error(&self, span: Span, message: impl std::fmt::Display) -> Diagnostic {
        Diagnostic::new(self.origin, Some(span), message)
    }

    /// Parses stages up to the end of the text, or up to the `)` that closes `open`.
    fn chain(&mut self, open: Option<&Word<'_>>, depth: usize) -> Result<Chain, Diagnostic> {
        let start = self.peek().map_or(self.origin.text.len(), |word| word.span.start);
        let mut chain = Chain { stages: Vec::new(), span: Some(Span::new(start, self.origin.text.trim_end().len().max(start))) };
        let mut separator: Option<&Word<'_>> = None;
        loop {
            let Some(word) = self.peek() else {
                if let Some(open) = open {
                    return Err(self.unclosed(open));
                }
                break;
            };
            if word.sign() == Some(Sign::Close) {
                let Some(open) = open else {
                    return Err(self.error(word.span, "this `)` closes nothing").help("put it in quotes when it belongs to a name"));
                };
                chain.span = Some(open.span.to(word.span));
                break;
            }
            if word.sign() == Some(Sign::Separator) {
                if separator.is_some() || chain.stages.is_empty() {
                    return Err(self.error(word.span, "a stage is missing before this `!`"));
                }
                separator = Some(word);
                self.next += 1;
                continue;
            }
            if !chain.stages.is_empty() && separator.is_none() {
                return Err(self.missing_separator(word));
            }
            separator = None;
            chain.stages.push(self.stage(depth)?);
        }
        match separator {
            Some(word) => Err(self.error(word.span, "a stage is missing after this `!`").help("add one, or leave the `!` out")),
            None => Ok(chain),
        }
    }

    /// Parses a stage with its arguments, options and branches.
    fn stage(&mut self, depth: usize) -> Result<StageDescription, Diagnostic> {
        let mut stage = StageDescription { stage: self.stage_name()?, ..StageDescription::default() };
        let mut literal = false;
        while let Some(word) = self.peek() {
            match word.sign() {
                Some(Sign::Separator | Sign::Close) => break,
                Some(Sign::Open) => stage.branches.push(self.branch(word, depth)?),
                _ if !stage.branches.is_empty() => break,
                Some(Sign::Literal) if !literal => {
                    literal = true;
                    self.next += 1;
                }
                _ => {
                    match word.option().filter(|_| !literal) {
                        Some(option) => stage.options.push(option),
                        None => stage.arguments.push(word.value()),
                    }
                    self.next += 1;
                }
            }
        }
        Ok(stage)
    }

    fn stage_name(&mut self) -> Result<Value, Diagnostic> {
        let Some(word) = self.peek() else {
            return Err(self.error(Span::new(self.origin.text.len(), self.origin.text.len()), "a stage is missing"));
        };
        if word.sign() == Some(Sign::Open) {
            let error = self.error(word.span, "a branch must follow the stage that feeds it");
            return Err(error.help("write it as `tee ( stage ) ( stage ) ! stage`"));
        }
        if word.sign().is_some() || word.option().is_some() {
            let error = self.error(word.span, format!("a stage begins with its name, not with `{}`", word.raw));
            return Err(error.help("write it as `stage argument key=value`"));
        }
        self.next += 1;
        Ok(word.value())
    }

    fn branch(&mut self, open: &Word<'_>, depth: usize) -> Result<Chain, Diagnostic> {
        if depth >= MAX_DEPTH {
            return Err(self.error(open.span, format!("branches are more than {MAX_DEPTH} deep")));
        }
        self.next += 1;
        let chain = self.chain(Some(open), depth + 1)?;
        self.next += 1;
        Ok(chain)
    }

    fn missing_separator(&self, word: &Word<'_>) -> Diagnostic {
        if word.option().is_some() {
            return self.error(word.span, "options of a stage come before its branches");
        }
        self.error(word.span, format!("`!` is missing before `{}`", word.raw)).help("stages are separated by ` ! `")
    }

    fn unclosed(&self, open: &Word<'_>) -> Diagnostic {
        let attached = self.words.iter().find(|word| word.span.start > open.span.start && word.raw.len() > 1 && word.raw.ends_with(')'));
        match attached {
            Some(word) => self.error(word.span, "this `)` is part of a word").help("put a space before it"),
            None => self.error(open.span, "this `(` is never closed").help("add ` )` where the branch ends"),
        }
    }
}
