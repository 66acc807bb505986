//! A text in a stream that comes in pieces. Keeps no more than the text is long.

/// Looks for one text.
#[derive(Debug)]
pub struct Search {
    text: Vec<u8>,
    /// The end of what was read, shorter than the text.
    tail: Vec<u8>,
}

impl Search {
    /// For `text`, which is not empty.
    #[must_use]
    pub fn new(text: &str) -> Search {
        Search { text: text.as_bytes().to_owned(), tail: Vec::new() }
    }

    /// Whether the text ends in this piece of the stream, or did in an earlier one's last part.
    pub fn feed(&mut self, piece: &[u8]) -> bool {
        self.tail.extend_from_slice(piece);
        if self.tail.windows(self.text.len().max(1)).any(|window| window == self.text) {
            return true;
        }
        let surplus = self.tail.len().saturating_sub(self.text.len().saturating_sub(1));
        self.tail.drain(..surplus);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_is_found_across_pieces() {
        let mut search = Search::new("ready to accept");
        assert!(!search.feed(b"not ready to acc"));
        assert!(!search.feed(b""));
        assert!(search.feed(b"ept connections\n"));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(text in "[ab]{1,4}", stream in "[ab]{0,30}", cut in 0_usize..30) {
            let cut = cut.min(stream.len());
            let mut search = Search::new(&text);
            let found = search.feed(&stream.as_bytes()[..cut]) || search.feed(&stream.as_bytes()[cut..]);
            prop_assert_eq!(found, stream.contains(&text));
            prop_assert!(found || search.tail.len() < text.len());
        }
    }
}
