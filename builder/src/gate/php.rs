//! The words of a PHP file: enough to tell code from comments, texts and HTML, and a call from a
//! method of the same name. Any bytes are accepted; what is no PHP gives words without meaning.

/// What a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A keyword or a name, with its namespace: `class`, `\Foo\Bar`.
    Name,
    /// `$name`.
    Variable,
    /// What stands between the quotes of a text, or in a heredoc.
    Text,
    /// Anything else: one byte, or one of `->`, `?->`, `::`, `=>`.
    Sign,
}

/// One word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a [u8],
    /// From 1; where it begins.
    pub(crate) line: usize,
}

impl Token<'_> {
    /// Whether this is the keyword, function or method name, whatever its case.
    pub(crate) fn is_name(&self, name: &str) -> bool {
        self.kind == Kind::Name && self.text.eq_ignore_ascii_case(name.as_bytes())
    }

    pub(crate) fn is_sign(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign.as_bytes()
    }

    /// Whether what follows is a member of what stands before.
    pub(crate) fn is_access(&self) -> bool {
        self.is_sign("->") || self.is_sign("?->") || self.is_sign("::")
    }
}

/// The words of a file that begins as HTML, as PHP files do.
pub(crate) fn tokens(source: &[u8]) -> Vec<Token<'_>> {
    let mut lexer = Lexer::new(source);
    lexer.html();
    lexer.run()
}

/// The words of a piece of code without `<?php` before it, whose first line has this number.
pub(crate) fn code(source: &[u8], line: usize) -> Vec<Token<'_>> {
    let mut lexer = Lexer::new(source);
    lexer.line = line;
    lexer.run()
}

/// The index of the bracket that closes the one at `open`; the last word when none does.
pub(crate) fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        if token.kind == Kind::Sign {
            match token.text {
                b"(" | b"[" | b"{" => depth += 1,
                b")" | b"]" | b"}" => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len().saturating_sub(1)
}

struct Lexer<'a> {
    source: &'a [u8],
    at: usize,
    line: usize,
    tokens: Vec<Token<'a>>,
}

const SIGNS: [&[u8]; 4] = [b"?->", b"->", b"::", b"=>"];

impl<'a> Lexer<'a> {
    fn new(source: &'a [u8]) -> Self {
        Self {
            source,
            at: 0,
            line: 1,
            tokens: Vec::new(),
        }
    }

    fn rest(&self) -> &'a [u8] {
        &self.source[self.at..]
    }

    fn starts(&self, text: &[u8]) -> bool {
        self.rest().starts_with(text)
    }

    /// Goes on by some bytes, counting lines.
    fn skip(&mut self, count: usize) {
        let end = (self.at + count).min(self.source.len());
        let passed = &self.source[self.at..end];
        self.line += passed.iter().filter(|&&byte| byte == b'\n').count();
        self.at = end;
    }

    /// Goes behind the next occurrence of a text, or to the end.
    fn skip_past(&mut self, text: &[u8]) {
        let found = find(self.rest(), text);
        self.skip(found.map_or(usize::MAX - self.at, |at| at + text.len()));
    }

    /// A word that begins here; `inner` is what of it counts.
    fn push(&mut self, kind: Kind, length: usize, inner: &'a [u8]) {
        self.tokens.push(Token {
            kind,
            text: inner,
            line: self.line,
        });
        self.skip(length);
    }

    fn html(&mut self) {
        while let Some(at) = find(self.rest(), b"<?") {
            self.skip(at + 2);
            if self.starts(b"=") {
                return self.skip(1);
            }
            if self.rest().len() >= 3 && self.rest()[..3].eq_ignore_ascii_case(b"php") {
                return self.skip(3);
            }
        }
        self.at = self.source.len();
    }

    fn run(mut self) -> Vec<Token<'a>> {
        while let Some(&byte) = self.rest().first() {
            match byte {
                b'?' if self.starts(b"?>") => {
                    self.skip(2);
                    self.html();
                }
                b'#' if self.starts(b"#[") => self.push(Kind::Sign, 1, &self.rest()[..1]),
                b'#' => self.comment(),
                b'/' if self.starts(b"//") => self.comment(),
                b'/' if self.starts(b"/*") => {
                    self.skip(2);
                    self.skip_past(b"*/");
                }
                b'\'' | b'"' | b'`' => self.quoted(byte),
                b'<' if self.starts(b"<<<") => self.heredoc(),
                b'$' if self.rest().get(1).is_some_and(|&byte| begins_name(byte)) => {
                    let length = 1 + name_length(&self.rest()[1..], false);
                    self.push(Kind::Variable, length, &self.rest()[..length]);
                }
                byte if begins_name(byte) || byte == b'\\' => {
                    let length = name_length(self.rest(), true).max(1);
                    self.push(Kind::Name, length, &self.rest()[..length]);
                }
                byte if byte.is_ascii_whitespace() => self.skip(1),
                _ => {
                    let long = SIGNS.iter().find(|sign| self.starts(sign));
                    let length = long.map_or(1, |sign| sign.len());
                    self.push(Kind::Sign, length, &self.rest()[..length]);
                }
            }
        }
        self.tokens
    }

    /// To the end of the line, or to `?>`, which ends a comment too.
    fn comment(&mut self) {
        let rest = self.rest();
        let line = rest.iter().position(|&byte| byte == b'\n');
        let line = line.unwrap_or(rest.len());
        self.skip(find(&rest[..line], b"?>").unwrap_or(line));
    }

    fn quoted(&mut self, quote: u8) {
        let rest = self.rest();
        let end = quoted_end(rest, quote);
        let inner = &rest[1..end.max(1)];
        self.push(Kind::Text, end + 1, inner);
    }

    /// `<<<NAME`, `<<<"NAME"` or `<<<'NAME'`, up to a line that begins with NAME.
    fn heredoc(&mut self) {
        let rest = self.rest();
        let blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
        let mut start = 3 + rest[3..].iter().take_while(blank).count();
        start += usize::from(matches!(rest.get(start), Some(b'\'' | b'"')));
        let length = name_length(&rest[start..], false);
        let name = &rest[start..start + length];
        let Some(body) = find(&rest[start + length..], b"\n").filter(|_| length > 0) else {
            return self.push(Kind::Sign, 3, &rest[..3]);
        };
        let body = start + length + body + 1;
        let mut end = body;
        for line in rest[body..].split_inclusive(|&byte| byte == b'\n') {
            let indent = line.iter().take_while(blank).count();
            let closes = line[indent..]
                .strip_prefix(name)
                .is_some_and(|after| name_length(after, false) == 0);
            if closes {
                return self.push(Kind::Text, end + indent + length, &rest[body..end]);
            }
            end += line.len();
        }
        self.push(Kind::Text, rest.len(), &rest[body..]);
    }
}

/// Where the quote that opens a text is closed. In `"..."`, code in `{$...}` may hold quotes.
fn quoted_end(text: &[u8], quote: u8) -> usize {
    let mut at = 1;
    let mut depth = 0_usize;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' => at += 1,
            b'{' if quote != b'\'' && (depth > 0 || text.get(at + 1) == Some(&b'$')) => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            byte if byte == quote && depth == 0 => return at,
            b'\'' | b'"' if depth > 0 => {
                // A text within the code within this text; its own braces do not count.
                let inner = text[at + 1..].iter().position(|&other| other == byte);
                match inner {
                    Some(length) => at += length + 1,
                    None => return text.len(),
                }
            }
            _ => {}
        }
        at += 1;
    }
    text.len()
}

fn begins_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn name_length(text: &[u8], namespace: bool) -> usize {
    text.iter()
        .position(|&byte| {
            !(begins_name(byte) || byte.is_ascii_digit() || namespace && byte == b'\\')
        })
        .unwrap_or(text.len())
}

fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|part| part == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(source: &str) -> Vec<(Kind, String, usize)> {
        let text = |token: &Token<'_>| String::from_utf8_lossy(token.text).into_owned();
        tokens(source.as_bytes())
            .iter()
            .map(|token| (token.kind, text(token), token.line))
            .collect()
    }

    fn names(source: &str) -> Vec<String> {
        let names = words(source);
        let names = names.into_iter().filter(|(kind, ..)| *kind == Kind::Name);
        names.map(|(_, text, _)| text).collect()
    }

    #[test]
    fn code_is_told_from_comments_texts_and_html() {
        let source = "a <?xml b ?> <?php c(); // d ?> e <?= f ?>\n<?php # g\n/* h\n */ i(#[j]\n'k', \"l {$m['n\"o']} p\", `q`);\n\
                      r <<<X\n s X2 {$t}\n  X . u; <<<'Y'\nv\nY;\nw";
        assert_eq!(names(source), ["c", "f", "i", "j", "r", "u", "w"]);
    }

    #[test]
    fn words_have_their_line_and_kind() {
        let expected = [
            (Kind::Variable, "$a", 2),
            (Kind::Sign, "?->", 2),
            (Kind::Name, "\\B\\c", 2),
            (Kind::Sign, "(", 2),
            (Kind::Text, "x\ny", 2),
            (Kind::Sign, ")", 3),
            (Kind::Sign, ";", 3),
            (Kind::Text, "z\n", 4),
            (Kind::Sign, ";", 6),
        ];
        let source = "<?php\n$a?->\\B\\c('x\ny');\n<<<E\nz\nE;\n";
        let expected = expected.map(|(kind, text, line)| (kind, text.to_owned(), line));
        assert_eq!(words(source), expected);
    }

    #[test]
    fn bracket_finds_its_partner() {
        let found = tokens(b"<?php f(a[1], {b}) c");
        let close = closing(&found, 1);
        assert!(found[close].is_sign(")") && found[close + 1].is_name("C"));
        assert_eq!(closing(&tokens(b"<?php ("), 0), 0);
        assert_eq!(closing(&[], 0), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_give_words_and_never_a_panic(source: Vec<u8>) {
            let lines = source.iter().filter(|&&byte| byte == b'\n').count() + 1;
            for words in [tokens(&source), code(&source, 1)] {
                prop_assert!(words.iter().all(|word| (1..=lines).contains(&word.line)));
            }
        }

        #[test]
        fn pieces_of_code_never_panic(source in "(<\\?php|\\?>|<<<[A'\"]|\\{\\$|[\"'`\\\\#/*\n {}()A$-]){0,40}") {
            tokens(source.as_bytes());
        }
    }
}
