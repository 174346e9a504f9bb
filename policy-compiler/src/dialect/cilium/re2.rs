//! RE2, the syntax of `method`, `path` and `host`, in terms of the Rust regex crate.
//!
//! What RE2 refuses is refused, what it takes literally (`{id}`, `[[]`, `&&` in a class) is literal, and what the Rust
//! crate alone knows (`(?x)`, nested classes, `\<`) never gets there. Values are ASCII: a canonical request has no other.

use regex_syntax::hir::{Class, HirKind};

/// Why an expression is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsupported {
    #[error("the escape `\\{0}` is not supported")]
    Escape(char),
    #[error("it ends in a backslash")]
    TrailingBackslash,
    #[error("the class `\\p{{{0}}}` is not supported")]
    Property(String),
    #[error("a class is not closed")]
    OpenClass,
    #[error("the range `{0}-{1}` of a class is empty or has no ends")]
    Range(char, char),
    #[error("the class `{0}` does not exist")]
    NamedClass(String),
    #[error("the group `(?{0}` is not supported: no look-around, and no flags but `i`, `m`, `s` and `U`")]
    Group(String),
    #[error("a repetition of a repetition")]
    RepeatedRepetition,
    #[error("a repetition of more than 1000, or from more to fewer")]
    RepetitionCount,
}

/// The same expression for the Rust crate in its byte mode.
pub(super) fn translate(source: &str) -> Result<String, Unsupported> {
    let mut translation =
        Translation { left: source, out: String::with_capacity(source.len()), repeated: Repeated::No };
    while let Some(next) = translation.next() {
        translation.piece(next)?;
    }
    Ok(translation.out)
}

/// What the piece before was, as far as a repetition may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeated {
    No,
    /// A `?` may still make it lazy.
    Once,
    Lazy,
}

struct Translation<'s> {
    left: &'s str,
    out: String,
    repeated: Repeated,
}

impl<'s> Translation<'s> {
    fn next(&mut self) -> Option<char> {
        let next = self.left.chars().next()?;
        self.left = self.left.get(next.len_utf8()..).unwrap_or_default();
        Some(next)
    }

    fn skip(&mut self, prefix: &str) -> bool {
        let rest = self.left.strip_prefix(prefix);
        self.left = rest.unwrap_or(self.left);
        rest.is_some()
    }

    fn literal(&mut self, c: char) {
        self.out.push_str(&regex_syntax::escape(c.encode_utf8(&mut [0; 4])));
    }

    fn piece(&mut self, next: char) -> Result<(), Unsupported> {
        match next {
            '*' | '+' | '?' => return self.repetition(next),
            '{' => {
                if self.count()? {
                    self.repeated = Repeated::Once;
                    return Ok(());
                }
                self.literal('{');
            }
            '\\' => match self.next().ok_or(Unsupported::TrailingBackslash)? {
                'Q' => {
                    let (quoted, rest) = self.left.split_once("\\E").unwrap_or((self.left, ""));
                    self.left = rest;
                    self.out.push_str(&regex_syntax::escape(quoted));
                }
                escaped @ ('A' | 'z' | 'b' | 'B') => {
                    self.out.push('\\');
                    self.out.push(escaped);
                }
                escaped => match self.escape(escaped)? {
                    Escaped::One(c) => self.literal(c),
                    Escaped::Set(set) => self.out.push_str(&set),
                },
            },
            '[' => self.class()?,
            '(' => self.group()?,
            '.' | '^' | '$' | '|' | ')' => self.out.push(next),
            _ => self.literal(next),
        }
        self.repeated = Repeated::No;
        Ok(())
    }

    fn repetition(&mut self, next: char) -> Result<(), Unsupported> {
        self.repeated = match (self.repeated, next) {
            (Repeated::No, _) => Repeated::Once,
            (Repeated::Once, '?') => Repeated::Lazy,
            _ => return Err(Unsupported::RepeatedRepetition),
        };
        self.out.push(next);
        Ok(())
    }

    /// `{n}`, `{n,}` or `{n,m}` behind the brace; false where the brace is a literal.
    fn count(&mut self) -> Result<bool, Unsupported> {
        let Some((inner, rest)) = self.left.split_once('}') else { return Ok(false) };
        let (low, high) = match inner.split_once(',') {
            Some((low, "")) => (low, None),
            Some((low, high)) => (low, Some(high)),
            None => (inner, Some(inner)),
        };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(low) || !high.is_none_or(digits) {
            return Ok(false);
        }
        let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number <= 1000);
        let low = number(low).ok_or(Unsupported::RepetitionCount)?;
        let high = high.map(|high| number(high).filter(|high| *high >= low).ok_or(Unsupported::RepetitionCount));
        let count = match high.transpose()? {
            Some(high) => format!("{{{low},{high}}}"),
            None => format!("{{{low},}}"),
        };
        self.left = rest;
        if self.repeated != Repeated::No {
            return Err(Unsupported::RepeatedRepetition);
        }
        self.out.push_str(&count);
        Ok(true)
    }

    fn escape(&mut self, escaped: char) -> Result<Escaped, Unsupported> {
        Ok(match escaped {
            'd' => Escaped::Set("[0-9]".into()),
            'D' => Escaped::Set("[^0-9]".into()),
            'w' => Escaped::Set("[0-9A-Za-z_]".into()),
            'W' => Escaped::Set("[^0-9A-Za-z_]".into()),
            // SPEC: without the vertical tab.
            's' => Escaped::Set("[\\t\\n\\x0C\\r ]".into()),
            'S' => Escaped::Set("[^\\t\\n\\x0C\\r ]".into()),
            'a' => Escaped::One('\x07'),
            'f' => Escaped::One('\x0c'),
            't' => Escaped::One('\t'),
            'n' => Escaped::One('\n'),
            'r' => Escaped::One('\r'),
            'v' => Escaped::One('\x0b'),
            'x' => Escaped::One(self.hexadecimal().ok_or(Unsupported::Escape('x'))?),
            'p' | 'P' => self.property(escaped == 'P')?,
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Escaped::One(c),
            other => return Err(Unsupported::Escape(other)),
        })
    }

    fn hexadecimal(&mut self) -> Option<char> {
        let (digits, rest) = match self.left.strip_prefix('{') {
            Some(braced) => braced.split_once('}')?,
            None => self.left.split_at_checked(2)?,
        };
        let hexadecimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = u32::from_str_radix(digits, 16).ok().filter(|_| hexadecimal)?;
        self.left = rest;
        char::from_u32(value)
    }

    /// `\pN`, `\p{Greek}`, `\p{^Lu}`: what of it is ASCII.
    fn property(&mut self, negated: bool) -> Result<Escaped, Unsupported> {
        let name = match self.next() {
            Some('{') => {
                let (name, rest) =
                    self.left.split_once('}').ok_or_else(|| Unsupported::Property(self.left.to_owned()))?;
                self.left = rest;
                name.to_owned()
            }
            Some(letter) => letter.to_string(),
            None => return Err(Unsupported::TrailingBackslash),
        };
        let plain = name.strip_prefix('^').unwrap_or(&name);
        let negated = negated != name.starts_with('^');
        let fits = plain.starts_with(|c: char| c.is_ascii_uppercase())
            && plain.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
        let class = if fits { regex_syntax::parse(&format!("\\p{{{plain}}}")).ok() } else { None };
        let Some(HirKind::Class(Class::Unicode(class))) = class.map(|class| class.into_kind()) else {
            return Err(Unsupported::Property(name));
        };
        let held = |c: char| class.ranges().iter().any(|range| range.start() <= c && c <= range.end());
        let ascii: String = ('\0'..='\x7f').filter(|c| held(*c)).map(|c| format!("\\x{:02X}", u32::from(c))).collect();
        Ok(Escaped::Set(match (ascii.is_empty(), negated) {
            (true, false) => NOTHING.to_owned(),
            (true, true) => "[\\x00-\\x7F]".to_owned(),
            (false, false) => format!("[{ascii}]"),
            (false, true) => format!("[^{ascii}]"),
        }))
    }

    /// Behind `[`.
    fn class(&mut self) -> Result<(), Unsupported> {
        self.out.push('[');
        if self.skip("^") {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let next = self.next().ok_or(Unsupported::OpenClass)?;
            if next == ']' && !first {
                self.out.push(']');
                return Ok(());
            }
            first = false;
            if next == '['
                && let Some((name, rest)) = self.left.strip_prefix(':').and_then(|named| named.split_once(":]"))
            {
                let plain = name.strip_prefix('^').unwrap_or(name);
                if !NAMED.contains(&plain) {
                    return Err(Unsupported::NamedClass(format!("[:{name}:]")));
                }
                self.out.push_str(&format!("[:{name}:]"));
                self.left = rest;
                continue;
            }
            let low = match next {
                '\\' => {
                    let escaped = self.next().ok_or(Unsupported::TrailingBackslash)?;
                    match self.escape(escaped)? {
                        Escaped::One(c) => c,
                        Escaped::Set(set) => {
                            self.out.push_str(&set);
                            continue;
                        }
                    }
                }
                other => other,
            };
            let mut ahead = self.left.chars();
            if ahead.next() == Some('-') && ahead.next().is_some_and(|after| after != ']') {
                self.skip("-");
                let high = match self.next().ok_or(Unsupported::OpenClass)? {
                    '\\' => {
                        let escaped = self.next().ok_or(Unsupported::TrailingBackslash)?;
                        match self.escape(escaped)? {
                            Escaped::One(c) => c,
                            Escaped::Set(_) => return Err(Unsupported::Range(low, escaped)),
                        }
                    }
                    other => other,
                };
                if low > high {
                    return Err(Unsupported::Range(low, high));
                }
                self.member(low);
                self.out.push('-');
                self.member(high);
            } else {
                self.member(low);
            }
        }
    }

    /// One character of a class, so that nothing of it means anything else.
    fn member(&mut self, c: char) {
        if c.is_ascii_alphanumeric() || !c.is_ascii() {
            self.out.push(c);
        } else {
            self.out.push_str(&format!("\\x{:02X}", u32::from(c)));
        }
    }

    /// Behind `(`. Nothing is captured.
    fn group(&mut self) -> Result<(), Unsupported> {
        if !self.skip("?") {
            self.out.push_str("(?:");
            return Ok(());
        }
        let start = self.left;
        let refused = || Unsupported::Group(start.chars().take(3).collect());
        if self.skip("P<")
            || (self.left.starts_with('<') && !self.left.starts_with("<=") && !self.left.starts_with("<!"))
        {
            self.skip("<");
            let (name, rest) = self.left.split_once('>').ok_or_else(refused)?;
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return Err(refused());
            }
            self.left = rest;
            self.out.push_str("(?:");
            return Ok(());
        }
        let mut flags = String::new();
        loop {
            match self.next().ok_or_else(refused)? {
                // SPEC: `U` swaps greedy and lazy: a full match is the same either way.
                'U' => {}
                flag @ ('i' | 'm' | 's') => flags.push(flag),
                '-' if !flags.contains('-') => flags.push('-'),
                end @ (':' | ')') => {
                    let flags = flags.strip_suffix('-').unwrap_or(&flags);
                    match (flags, end) {
                        ("", ')') => {}
                        (flags, end) => self.out.push_str(&format!("(?{flags}{end}")),
                    }
                    return Ok(());
                }
                _ => return Err(refused()),
            }
        }
    }
}

enum Escaped {
    One(char),
    Set(String),
}

const NAMED: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// A class that matches nothing.
const NOTHING: &str = "[a&&b]";

#[cfg(test)]
mod tests {
    use super::{Unsupported, translate};

    fn matches(source: &str, value: &str) -> bool {
        let expression = format!("^(?:{})$", translate(source).unwrap());
        let syntax = regex_automata::util::syntax::Config::new().unicode(false).utf8(false);
        regex_automata::meta::Regex::builder().syntax(syntax).build(&expression).unwrap().is_match(value)
    }

    #[test]
    fn the_same_language() {
        for (source, value, expected) in [
            ("/orders/{id}", "/orders/{id}", true),
            ("/orders/{id}", "/orders/7", false),
            ("a{2}", "aa", true),
            ("a{2,}", "aaa", true),
            ("a{,2}", "a{,2}", true),
            ("a{2,3}?", "aaa", true),
            ("[[]", "[", true),
            ("[]a]", "]", true),
            ("[^]a]", "]", false),
            ("[a&&b]", "&", true),
            ("[a&&b]", "a", true),
            ("[a-c-]", "-", true),
            ("[+--]", ",", true),
            ("[\\d_]", "5", true),
            ("[\\D]", "5", false),
            ("[[:alpha:]]+", "aZ", true),
            ("[[:^alpha:]]", "a", false),
            ("\\Q/a.b\\E.*", "/a.b/c", true),
            ("\\Q/a.b\\E", "/aXb", false),
            ("\\<a\\>", "<a>", true),
            ("\\/a\\_b", "/a_b", true),
            ("\\x41\\x{42}", "AB", true),
            ("\\pL\\pN", "a7", true),
            ("\\p{Lu}", "a", false),
            ("\\p{^Lu}", "a", true),
            ("[\\p{Lu}_]", "_", true),
            ("\\p{Greek}", "a", false),
            ("\\s", "\u{b}", false),
            ("(?i)get", "GET", true),
            ("(?U)a+", "aa", true),
            ("(?i:a)b", "AB", false),
            ("(?P<name>a)(?<other>b)", "ab", true),
            ("(a|ab)c", "abc", true),
            ("a }]", "a }]", true),
            ("/a#b", "/a#b", true),
        ] {
            assert_eq!(matches(source, value), expected, "{source} on {value}");
        }
    }

    #[test]
    fn what_re2_does_not_have() {
        for (source, expected) in [
            ("\\C", Unsupported::Escape('C')),
            ("\\1", Unsupported::Escape('1')),
            ("\\u0041", Unsupported::Escape('u')),
            ("a\\", Unsupported::TrailingBackslash),
            ("a**", Unsupported::RepeatedRepetition),
            ("a*{2}", Unsupported::RepeatedRepetition),
            ("a???", Unsupported::RepeatedRepetition),
            ("a{1001}", Unsupported::RepetitionCount),
            ("a{3,2}", Unsupported::RepetitionCount),
            ("[a", Unsupported::OpenClass),
            ("[z-a]", Unsupported::Range('z', 'a')),
            ("[a-\\d]", Unsupported::Range('a', 'd')),
            ("[[:what:]]", Unsupported::NamedClass("[:what:]".into())),
            ("\\p{alphabetic}", Unsupported::Property("alphabetic".into())),
            ("\\p{scx=Greek}", Unsupported::Property("scx=Greek".into())),
            ("(?=a)", Unsupported::Group("=a)".into())),
            ("(?<!a)", Unsupported::Group("<!a".into())),
            ("(?x)a", Unsupported::Group("x)a".into())),
        ] {
            assert_eq!(translate(source), Err(expected), "{source}");
        }
    }
}
