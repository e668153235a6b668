"""The commands of `cgd`, by what they are about; each module adds its own to the parser and imports what they need when they run."""
