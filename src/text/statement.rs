//! Whether the text of a statement may be sent to the server for its plan: one statement that reads or changes rows, whole,
//! and nothing beside it.

use super::literals::{Token, split};

/// How the statements begin that EXPLAIN takes and that do nothing else; `WITH` begins one of the others.
const EXPLAINED: [&str; 7] = ["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "WITH"];

/// Why a text is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotExplained {
    /// Another kind of statement, or none.
    #[error("only SELECT, INSERT, UPDATE, DELETE, MERGE and VALUES have a plan")]
    OtherKind,
    /// More than one statement.
    #[error("the text holds more than one statement")]
    Several,
    /// It ends in the middle of a literal or a comment.
    #[error("the text is cut off (track_activity_query_size)")]
    Cut,
}

/// The statement without a semicolon at its end, and how many parameters it has (`$1` to `$n`).
pub fn explained(sql: &str) -> Result<(&str, u16), NotExplained> {
    let mut rest = sql;
    let (mut first, mut end, mut parameters) = (None, None, 0);
    while !rest.is_empty() {
        let place = sql.len() - rest.len();
        let (token, after) = split(rest);
        match token {
            Token::Comment(open, _, close) => {
                if open == "/*" && close.is_empty() {
                    return Err(NotExplained::Cut);
                }
            }
            Token::Literal => {
                let literal = rest.get(..rest.len() - after.len()).unwrap_or_default();
                if after.is_empty() && !is_closed(literal) {
                    return Err(NotExplained::Cut);
                }
                if end.is_some() {
                    return Err(NotExplained::Several);
                }
                first.get_or_insert("");
            }
            Token::Plain(text) if text.trim().is_empty() => {}
            Token::Plain(_) if end.is_some() => return Err(NotExplained::Several),
            Token::Plain(";") => end = Some(place),
            Token::Plain(text) => {
                // A parenthesis may stand before the first word.
                if text != "(" {
                    first.get_or_insert(text);
                }
                let number = text.strip_prefix('$').and_then(|digits| digits.parse::<u16>().ok());
                parameters = parameters.max(number.unwrap_or_default());
            }
        }
        rest = after;
    }
    let word = first.unwrap_or_default();
    if !EXPLAINED.iter().any(|it| word.eq_ignore_ascii_case(it)) {
        return Err(NotExplained::OtherKind);
    }
    Ok((sql.get(..end.unwrap_or(sql.len())).unwrap_or(sql).trim(), parameters))
}

/// Whether a literal at the end of a text has its end.
fn is_closed(literal: &str) -> bool {
    let opening = literal.find(['\'', '$', '"']);
    match opening.and_then(|at| literal.get(at..)) {
        // A number.
        None => true,
        Some(quoted) if quoted.starts_with('$') => {
            let tag = quoted.get(1..).and_then(|inside| inside.split_once('$')).map_or("", |(tag, _)| tag);
            let quote = format!("${tag}$");
            quoted.len() >= 2 * quote.len() && quoted.ends_with(&quote)
        }
        // An even number of quotes, because one inside is doubled; one behind a backslash nobody can tell.
        Some(quoted) => {
            let quote = if quoted.starts_with('"') { '"' } else { '\'' };
            !quoted.contains('\\') && quoted.matches(quote).count().is_multiple_of(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    #[test]
    fn one_whole_statement_is_sent() {
        for (sql, sent, parameters) in [
            ("SELECT 1", "SELECT 1", 0),
            (" select * FROM t WHERE a = $2 AND b = $1 ; ", "select * FROM t WHERE a = $2 AND b = $1", 2),
            ("/* web */ UPDATE t SET a = 'x;y'", "/* web */ UPDATE t SET a = 'x;y'", 0),
            ("(SELECT 1) UNION (SELECT 2); -- done", "(SELECT 1) UNION (SELECT 2)", 0),
            ("WITH a AS (SELECT 1) DELETE FROM t", "WITH a AS (SELECT 1) DELETE FROM t", 0),
            ("SELECT $$;$$, 'it''s'", "SELECT $$;$$, 'it''s'", 0),
            ("VALUES (1)", "VALUES (1)", 0),
        ] {
            assert_eq!(explained(sql), Ok((sent, parameters)), "{sql}");
        }
    }

    #[test]
    fn nothing_else_is_sent() {
        use NotExplained::{Cut, OtherKind, Several};
        for (sql, why) in [
            ("", OtherKind),
            ("DROP TABLE t", OtherKind),
            ("EXPLAIN ANALYZE DELETE FROM t", OtherKind),
            ("CALL p()", OtherKind),
            ("'SELECT'", OtherKind),
            ("/* SELECT */ TRUNCATE t", OtherKind),
            ("SELECT 1; DROP TABLE t", Several),
            ("SELECT 1;; DROP TABLE t", Several),
            ("SELECT 1; 'x'", Several),
            ("SELECT 'abc", Cut),
            ("SELECT $$abc$", Cut),
            ("SELECT \"abc", Cut),
            ("SELECT 1 /* abc", Cut),
        ] {
            assert_eq!(explained(sql), Err(why), "{sql}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_sent_has_no_second_statement(before in "[ -~]{0,20}", after in "[ -~]{1,20}") {
            // Whatever the text is, a semicolon that a server would see ends it.
            if let Ok((sent, _)) = explained(&format!("SELECT {before};{after}")) {
                let (inner, _) = explained(sent).expect("what is sent can be sent");
                prop_assert_eq!(inner, sent);
            }
            let _: Result<_, _> = explained(&before);
        }
    }
}
