//! What is read, what is refused and in which words, and which server is used.
