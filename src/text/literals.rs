//! What a statement is about without what it is said of: literals become `?`, everything else stays.
//!
//! Text of statements is cut at `track_activity_query_size`, so it need not be whole: what begins and does not end is
//! a literal to its end.

use std::borrow::Cow;

/// Stands for a literal.
const MASK: &str = "?";

/// The statement with every string, number, bit string and dollar-quoted text as `?`, in comments too. Names, quoted
/// or not, parameters (`$1`) and keywords stay (manual, "Lexical Structure").
pub fn masked(sql: &str) -> Cow<'_, str> {
    let is_harmless = |b: u8| !b.is_ascii_digit() && b != b'\'' && b != b'$';
    if sql.bytes().all(is_harmless) {
        return Cow::Borrowed(sql);
    }
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while !rest.is_empty() {
        let (token, after) = split(rest);
        match token {
            Token::Literal => out.push_str(MASK),
            Token::Plain(text) => out.push_str(text),
            Token::Comment(open, body, close) => {
                out.push_str(open);
                out.push_str(&masked_flat(body));
                out.push_str(close);
            }
        }
        rest = after;
    }
    Cow::Owned(out)
}

/// A statement that speaks of a password without any of its literals, one of which may be the password: `ALTER ROLE`,
/// `CREATE SUBSCRIPTION`, `dblink`, and what an application says to a table of users.
pub fn without_password(sql: &str) -> Cow<'_, str> {
    const WORD: &[u8] = b"password";
    let mut windows = sql.as_bytes().windows(WORD.len());
    if windows.any(|it| it.eq_ignore_ascii_case(WORD)) { masked(sql) } else { Cow::Borrowed(sql) }
}

/// The inside of a comment, up to its first quote: behind an apostrophe nobody can tell what is a literal.
fn masked_flat(comment: &str) -> String {
    let mut out = String::with_capacity(comment.len());
    let mut rest = comment;
    while !rest.is_empty() {
        if rest.starts_with(['\'', '"']) {
            out.push_str(MASK);
            break;
        }
        let (token, after) = split_flat(rest);
        out.push_str(token.unwrap_or(MASK));
        rest = after;
    }
    out
}

/// A piece of a statement.
pub(super) enum Token<'a> {
    /// A string, a number, or a name in quotes that does not end.
    Literal,
    /// A name, keyword, parameter or sign.
    Plain(&'a str),
    /// Opening, inside and end, which is empty where the text was cut.
    Comment(&'a str, &'a str, &'a str),
}

/// The first token and the rest, which is shorter.
pub(super) fn split(sql: &str) -> (Token<'_>, &str) {
    if sql.starts_with("--") {
        let end = sql.find(['\n', '\r']).unwrap_or(sql.len());
        let (comment, rest) = sql.split_at(end);
        let (open, body) = comment.split_at(2);
        return (Token::Comment(open, body, ""), rest);
    }
    if sql.starts_with("/*") {
        let (end, is_closed) = comment_end(sql);
        let (comment, rest) = sql.split_at(end);
        let (open, body) = comment.split_at(2);
        let (body, close) = body.split_at(body.len() - if is_closed { 2 } else { 0 });
        return (Token::Comment(open, body, close), rest);
    }
    let (token, rest) = split_flat(sql);
    (token.map_or(Token::Literal, Token::Plain), rest)
}

/// The same where no comment begins: `None` is a literal.
fn split_flat(sql: &str) -> (Option<&str>, &str) {
    let Some(first) = sql.chars().next() else { return (Some(""), "") };
    let second = sql.chars().nth(1);
    match (first, second) {
        ('\'', _) => (None, after_quote(sql, 1, false)),
        ('e' | 'E', Some('\'')) => (None, after_quote(sql, 2, true)),
        ('b' | 'B' | 'x' | 'X' | 'n' | 'N', Some('\'')) => (None, after_quote(sql, 2, false)),
        ('"', _) => {
            let end = sql.get(1..).and_then(|inside| inside.find('"')).map(|end| end + 2);
            // One that does not end may be anything.
            end.map_or((None, ""), |end| {
                let (name, rest) = sql.split_at(end);
                (Some(name), rest)
            })
        }
        ('$', Some(next)) if next.is_ascii_digit() => plain(sql, 1, |c| c.is_ascii_digit()),
        ('$', _) => match dollar_quoted(sql) {
            Some(rest) => (None, rest),
            None => plain(sql, 1, |_| false),
        },
        (digit, _) if digit.is_ascii_digit() => (None, after_number(sql)),
        ('.', Some(digit)) if digit.is_ascii_digit() => (None, after_number(sql)),
        (c, _) if c.is_alphabetic() || c == '_' => {
            plain(sql, c.len_utf8(), |c| c.is_alphanumeric() || c == '_' || c == '$')
        }
        (c, _) => plain(sql, c.len_utf8(), |_| false),
    }
}

/// So many bytes and whatever belongs to them.
fn plain(sql: &str, least: usize, belongs: impl Fn(char) -> bool) -> (Option<&str>, &str) {
    let rest = sql.get(least..).unwrap_or_default();
    let more = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
    let (token, rest) = sql.split_at(least + more);
    (Some(token), rest)
}

/// What follows a string whose quote ends at byte `from`.
fn after_quote(sql: &str, from: usize, has_escapes: bool) -> &str {
    let mut chars = sql.char_indices().skip_while(|(at, _)| *at < from).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && has_escapes {
            chars.next();
        } else if c == '\\' && chars.peek().is_some_and(|(_, next)| *next == '\'') {
            // With standard_conforming_strings off the string goes on, else it ends: all the rest may be literals.
            return "";
        } else if c == '\'' && chars.next_if(|(_, next)| *next == '\'').is_none() {
            return sql.get(at + 1..).unwrap_or_default();
        }
    }
    ""
}

/// What follows a number, with all that could be part of one: `0x1F`, `1_000`, `1.5e-7`.
fn after_number(sql: &str) -> &str {
    let mut before = ' ';
    let end = sql.find(|c: char| {
        let is_sign = (c == '-' || c == '+') && before.eq_ignore_ascii_case(&'e');
        before = c;
        !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || is_sign)
    });
    end.and_then(|end| sql.get(end..)).unwrap_or_default()
}

/// What follows `$tag$ ... $tag$`; `None` where no such thing begins.
fn dollar_quoted(sql: &str) -> Option<&str> {
    let inside = sql.get(1..)?;
    let tag_end = inside.find('$')?;
    let tag = inside.get(..tag_end)?;
    if !tag.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let quote = sql.get(..tag_end + 2)?;
    let body = sql.get(quote.len()..)?;
    Some(body.find(quote).and_then(|end| body.get(end + quote.len()..)).unwrap_or_default())
}

/// Where a block comment ends, those within it counted, and whether it ends at all.
fn comment_end(sql: &str) -> (usize, bool) {
    let mut depth = 0_usize;
    let mut place = 0;
    let bytes = sql.as_bytes();
    while let Some(pair) = bytes.get(place..place + 2) {
        match pair {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                place += 1;
                continue;
            }
        }
        place += 2;
        if depth == 0 {
            return (place, true);
        }
    }
    (sql.len(), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    #[test]
    fn literals_go_and_names_stay() {
        for (sql, shown) in [
            ("SELECT * FROM t1 WHERE a = 'x''y' AND b=$1", "SELECT * FROM t1 WHERE a = ? AND b=$1"),
            ("SELECT 42, -1.5e-7, .5, 0x1F, 1_000, a2b", "SELECT ?, -?, ?, ?, ?, a2b"),
            (r"SELECT E'it\'s', b'01', X'ff', N'n', U&'u'", "SELECT ?, ?, ?, ?, U&?"),
            ("SELECT \"card 4711\", caf\u{e9}3 FROM \"T\"", "SELECT \"card 4711\", caf\u{e9}3 FROM \"T\""),
            ("DO $$ BEGIN x := 'y'; END $$", "DO ?"),
            ("SELECT $tag$ a $$ b $tag$ || $1", "SELECT ? || $1"),
            ("ALTER ROLE a PASSWORD 'secret", "ALTER ROLE a PASSWORD ?"),
            ("SELECT $q$never ends", "SELECT ?"),
            ("/* it's 4711 */ SELECT 'a'", "/* it?*/ SELECT ?"),
            ("-- don't\nSELECT 'secret'", "-- don?\nSELECT ?"),
            ("/* a 7 /* 'b' */ 7 */ SELECT 1", "/* a ? /* ?*/ SELECT ?"),
            ("-- don't use: WHERE name = 'secret'\nSELECT 1", "-- don?\nSELECT ?"),
            ("-- don't\rSELECT 'secret'", "-- don?\rSELECT ?"),
            ("SELECT \"x, 'secret'", "SELECT ?"),
            (r"SELECT 'it\'s secret', 'more'", "SELECT ?"),
            ("SELECT 1 /* cut 'sec", "SELECT ? /* cut ?"),
            ("BEGIN", "BEGIN"),
        ] {
            assert_eq!(masked(sql), shown, "{sql}");
        }
    }

    #[test]
    fn a_password_of_a_statement_is_never_shown() {
        for (sql, shown) in [
            ("ALTER ROLE a Password 'hunter2'", "ALTER ROLE a Password ?"),
            ("SELECT dblink('host=a password=hunter2')", "SELECT dblink(?)"),
            ("SELECT 'passwor', 7", "SELECT 'passwor', 7"),
        ] {
            assert_eq!(without_password(sql), shown, "{sql}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_masked_and_a_secret_string_never_shows(
            before in "[ a-z0-9$*/-]{0,30}", secret in "[a-z]{12}", after in ".{0,30}",
        ) {
            drop(masked(&after).into_owned());
            let sql = format!("{before} '{secret}' {after}");
            let shown = masked(&sql).into_owned();
            // A line comment before it keeps nothing either.
            prop_assert!(!shown.contains(&secret) , "{sql} {shown}");
        }
    }
}
