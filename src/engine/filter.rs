//! The text filter: words that must all occur, in any order; a word with a capital letter is case-sensitive.
//!
//! It must not know what it filters.

/// A filter as typed; an empty one lets everything through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    words: Vec<Word>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    text: String,
    case_sensitive: bool,
    wanted: bool,
}

impl Filter {
    /// Reads what was typed: words apart by spaces; `!word` must not occur.
    pub fn parse(typed: &str) -> Self {
        let word = |typed: &str| {
            let (text, wanted) = typed.strip_prefix('!').map_or((typed, true), |rest| (rest, false));
            (!text.is_empty()).then(|| Word {
                text: text.to_owned(),
                case_sensitive: text.chars().any(char::is_uppercase),
                wanted,
            })
        };
        Self { words: typed.split_whitespace().filter_map(word).collect() }
    }

    /// Whether it lets everything through.
    pub const fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Whether a row with these cells passes.
    pub fn passes(&self, row: &str) -> bool {
        if self.words.is_empty() {
            return true;
        }
        let lower = row.to_lowercase();
        self.words.iter().all(|word| {
            let found =
                if word.case_sensitive { row.contains(&word.text) } else { lower.contains(&word.text) };
            found == word.wanted
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_must_all_occur() {
        let row = "4242 reports-worker UPDATE reports";
        for (typed, passes) in [
            ("", true),
            ("update 4242", true),
            ("Update", false),
            ("UPDATE", true),
            ("!billing reports", true),
            ("!reports", false),
            ("!", true),
        ] {
            assert_eq!(Filter::parse(typed).passes(row), passes, "{typed}");
        }
    }
}
