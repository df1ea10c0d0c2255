"""Names of images for tests that build none."""


def digest(letters: str) -> str:
    """A digest that begins with these hexadecimal digits and goes on with them."""
    return f"sha256:{(letters * 64)[:64]}"


def image(letters: str, repository: str = "registry.example.com/attrition-scoring") -> str:
    """An image of a registry with that digest."""
    return f"{repository}@{digest(letters)}"
