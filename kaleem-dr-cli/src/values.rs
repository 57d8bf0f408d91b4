//! Values that are one of a few words: the library's types parse them, and shell completions know them.

use std::{fmt::Display, str::FromStr};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use kaleem_dr_core::{
    ground::{ProofLevel, language::Language},
    operate::checklist::Period,
};

/// The levels of a proof.
pub fn level() -> impl TypedValueParser<Value = ProofLevel> {
    one_of(&["stored", "readable", "parsed", "restored"])
}

/// The languages of reports and checklists.
pub fn language() -> impl TypedValueParser<Value = Language> {
    one_of(&["en", "ar"])
}

/// The periods of checklists.
pub fn period() -> impl TypedValueParser<Value = Period> {
    one_of(&["daily", "weekly", "monthly"])
}

fn one_of<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: Display> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words)
        .try_map(|word| word.parse::<T>().map_err(|error| error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_completions_are_those_of_the_library() {
        let levels = ProofLevel::ALL.map(ProofLevel::as_str);
        let of = |values: Vec<clap::builder::PossibleValue>| {
            values.iter().map(|value| value.get_name().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(of(level().possible_values().unwrap().collect()), levels);
        for word in of(language().possible_values().unwrap().collect()) {
            assert!(word.parse::<Language>().is_ok(), "{word}");
        }
        for word in of(period().possible_values().unwrap().collect()) {
            assert!(word.parse::<Period>().is_ok(), "{word}");
        }
    }
}
