"""10,000 hands of blackjack, by basic strategy, at a hundred tables.

Each table is an engine with a shoe of six decks and a seed of its own. Whoever deals the same seeds gets the same
cards, on any machine, and with `use_worker=True` in other processes as well. The player doubles, but never splits.
"""

from collections.abc import Iterable

from hybrid_compute.tabletop.engine import TableEngine

TABLES, HANDS = 100, 100
SHOE = [
    {"id": f"{deck}{suit}{rank}", "value": min(rank, 10)}
    for deck in range(6)
    for suit in "CDHS"
    for rank in range(1, 14)  # an ace is 1, or 11
]
EDGE, SPREAD = -0.0083, 1.11  # what such a player wins in a hand, in bets: the mean of a million, and its deviation

STAND_FROM = {2: 13, 3: 13, 4: 12, 5: 12, 6: 12}  # by the dealer's card; 17 against all others
DOUBLE = {9: range(3, 7), 10: range(2, 10), 11: range(2, 11)}
DOUBLE_SOFT = {13: (5, 6), 14: (5, 6), 15: (4, 5, 6), 16: (4, 5, 6), 17: (3, 4, 5, 6), 18: (3, 4, 5, 6)}


class Hand:
    """Cards, and what they are worth."""

    def __init__(self, cards: Iterable[int]) -> None:
        self.cards = list(cards)

    @property
    def soft(self) -> bool:
        """Whether an ace counts 11."""
        return 1 in self.cards and sum(self.cards) <= 11

    @property
    def total(self) -> int:
        return sum(self.cards) + 10 * self.soft

    @property
    def blackjack(self) -> bool:
        return len(self.cards) == 2 and self.total == 21


def stands(hand: Hand, dealer: int) -> bool:
    if hand.soft:
        return hand.total >= (19 if dealer in (1, 9, 10) else 18)
    return hand.total >= STAND_FROM.get(dealer, 17)


def doubles(hand: Hand, dealer: int) -> bool:
    return len(hand.cards) == 2 and dealer in (DOUBLE_SOFT if hand.soft else DOUBLE).get(hand.total, ())


def play(table: TableEngine) -> float:
    """What the player wins in one hand, in bets."""

    def draw(count: int) -> list[int]:
        return [card["value"] for card in table.stack.draw(count)]

    player, dealer = Hand(draw(2)), Hand(draw(2))
    if player.blackjack or dealer.blackjack:
        return 1.5 * (player.blackjack - dealer.blackjack) if player.blackjack else -1.0
    shown, bet = dealer.cards[0], 1.0
    if doubles(player, shown):
        bet = 2.0
        player.cards += draw(1)
    else:
        while not stands(player, shown):
            player.cards += draw(1)
    if player.total > 21:
        return -bet
    while dealer.total < 17:
        dealer.cards += draw(1)
    if dealer.total > 21 or dealer.total < player.total:
        return bet
    return 0.0 if dealer.total == player.total else -bet


def evening(table: TableEngine) -> list[float]:
    """All hands at one table. What is left of a shoe after 50 hands is shuffled in again."""
    won: list[float] = []
    for hand in range(HANDS):
        if hand % 50 == 0:
            table.stack.reset()
            table.stack.shuffle()  # by the engine's own chance, which follows from its seed
        won.append(play(table))
    return won


def main() -> None:
    won = [each for seed in range(TABLES) for each in evening(TableEngine(SHOE, seed=seed))]
    mean, error = sum(won) / len(won), SPREAD / len(won) ** 0.5
    low, high = EDGE - 2 * error, EDGE + 2 * error
    print(f"{len(won):,} hands at {TABLES} tables")
    print(f"won {mean:+.2%} of a bet in each; 19 times out of 20 it is {low:+.2%} to {high:+.2%}")
    assert low < mean < high

    again = evening(TableEngine(SHOE, seed=42))
    assert again == won[42 * HANDS : 43 * HANDS]
    print(f"table 42 once more: the same {HANDS} hands, {sum(again):+.1f} bets")


if __name__ == "__main__":
    main()
