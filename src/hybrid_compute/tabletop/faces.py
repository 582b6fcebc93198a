"""The token actions as methods: `engine.stack.draw(5)`, and `await engine.aio.stack.draw(5)`.

Each verb is one function of `asks`, and each of its two forms is typed: which one a face has, its type says.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from hybrid_compute.engine.actions import Ask
from hybrid_compute.tabletop.asks import agents, debug, game, loop, rules, source, space, stack, token, tokens

P = ParamSpec("P")
T = TypeVar("T")


class Now:
    """The verbs of a face give results."""


class Soon:
    """The verbs of a face give what is to be awaited."""


How = TypeVar("How", Now, Soon)


class Face(Generic[How]):
    """A group of verbs. `do` has them done."""

    __slots__ = ("do",)

    def __init__(self, do: Callable[[Ask[Any]], Any]) -> None:
        self.do = do


class _Verb(Generic[P, T]):
    """A method of a face, made of the function that says what is asked."""

    def __init__(self, make: Callable[P, Ask[T]]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, face: None, cls: type[Any]) -> Self: ...
    @overload
    def __get__(self, face: Face[Now], cls: type[Any]) -> Callable[P, T]: ...
    @overload
    def __get__(self, face: Face[Soon], cls: type[Any]) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, face: Face[Any] | None, cls: type[Any]) -> Any:
        if face is None:
            return self
        do, make = face.do, self._make
        return lambda *args, **kwargs: do(make(*args, **kwargs))


class _Named(Face[How]):
    """The verbs of somebody."""

    __slots__ = ("name",)

    def __init__(self, do: Callable[[Ask[Any]], Any], name: str) -> None:
        super().__init__(do)
        self.name = name


class _VerbOf(Generic[P, T]):
    """The same for a function that takes the name first."""

    def __init__(self, make: Callable[Concatenate[str, P], Ask[T]]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, face: None, cls: type[Any]) -> Self: ...
    @overload
    def __get__(self, face: _Named[Now], cls: type[Any]) -> Callable[P, T]: ...
    @overload
    def __get__(self, face: _Named[Soon], cls: type[Any]) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, face: _Named[Any] | None, cls: type[Any]) -> Any:
        if face is None:
            return self
        do, name, make = face.do, face.name, self._make
        return lambda *args, **kwargs: do(make(name, *args, **kwargs))


class StackFace(Face[How]):
    """The stack."""

    __slots__ = ()

    draw = _Verb(stack.draw)
    peek = _Verb(stack.peek)
    shuffle = _Verb(stack.shuffle)
    burn = _Verb(stack.burn)
    reset = _Verb(stack.reset)
    cut = _Verb(stack.cut)
    insert_at = _Verb(stack.insert_at)
    remove_at = _Verb(stack.remove_at)
    swap = _Verb(stack.swap)
    reverse = _Verb(stack.reverse)
    discard = _Verb(stack.discard)


class SpaceFace(Face[How]):
    """Zones, and what lies in them."""

    __slots__ = ()

    place = _Verb(space.place)
    remove = _Verb(space.remove)
    move = _Verb(space.move)
    flip = _Verb(space.flip)
    create_zone = _Verb(space.create_zone)
    delete_zone = _Verb(space.delete_zone)
    clear_zone = _Verb(space.clear_zone)
    lock_zone = _Verb(space.lock_zone)
    shuffle_zone = _Verb(space.shuffle_zone)
    fan_zone = _Verb(space.fan_zone)
    spread_zone = _Verb(space.spread_zone)
    stack_zone = _Verb(space.stack_zone)
    transfer_zone = _Verb(space.transfer_zone)
    clear = _Verb(space.clear)


class SourceFace(Face[How]):
    """The source."""

    __slots__ = ()

    draw = _Verb(source.draw)
    draw_many = _Verb(source.draw_many)
    shuffle = _Verb(source.shuffle)
    burn = _Verb(source.burn)
    add_stack = _Verb(source.add_stack)
    remove_stack = _Verb(source.remove_stack)
    reset = _Verb(source.reset)
    inspect = _Verb(source.inspect)


class AgentFace(_Named[How]):
    """One agent, whether or not it is there yet."""

    __slots__ = ()

    remove = _VerbOf(agents.remove)
    get = _VerbOf(agents.get)
    set_active = _VerbOf(agents.set_active)
    set_meta = _VerbOf(agents.set_meta)
    give = _VerbOf(agents.give)
    take = _VerbOf(agents.take)
    transfer = _VerbOf(agents.transfer)
    steal = _VerbOf(agents.steal)
    add_token = _VerbOf(agents.add_token)
    remove_token = _VerbOf(agents.remove_token)
    transfer_token = _VerbOf(agents.transfer_token)
    steal_token = _VerbOf(agents.steal_token)
    trade = _VerbOf(agents.trade)
    draw = _VerbOf(agents.draw)
    discard = _VerbOf(agents.discard)


class AgentsFace(Face[How]):
    """All agents; `agents["Alice"]` is one."""

    __slots__ = ()

    create = _Verb(agents.create)
    get_all = _Verb(agents.get_all)

    def __getitem__(self, name: str) -> AgentFace[How]:
        return AgentFace(self.do, name)


class GameFace(Face[How]):
    """A game's life, and what it keeps."""

    __slots__ = ()

    start = _Verb(game.start)
    end = _Verb(game.end)
    pause = _Verb(game.pause)
    resume = _Verb(game.resume)
    next_phase = _Verb(game.next_phase)
    get_state = _Verb(game.get_state)
    set_property = _Verb(game.set_property)
    merge_state = _Verb(game.merge_state)
    set_state = _Verb(game.set_state)
    patch_state = _Verb(game.patch_state)


class LoopFace(Face[How]):
    """The game loop."""

    __slots__ = ()

    init = _Verb(loop.init)
    start = _Verb(loop.start)
    stop = _Verb(loop.stop)
    next_turn = _Verb(loop.next_turn)
    set_phase = _Verb(loop.set_phase)
    set_max_turns = _Verb(loop.set_max_turns)
    set_active_agent = _Verb(loop.set_active_agent)


class RulesFace(Face[How]):
    """The memory of the rules."""

    __slots__ = ()

    init = _Verb(rules.init)
    mark_fired = _Verb(rules.mark_fired)


class TokenFace(Face[How]):
    """Tokens made of others."""

    __slots__ = ()

    transform = _Verb(token.transform)
    attach = _Verb(token.attach)
    detach = _Verb(token.detach)
    merge = _Verb(token.merge)
    split = _Verb(token.split)


class TokensFace(Face[How]):
    """Piles of tokens, looked through."""

    __slots__ = ()

    shuffle = _Verb(tokens.shuffle)
    draw = _Verb(tokens.draw)
    filter = _Verb(tokens.filter)
    find = _Verb(tokens.find)
    count = _Verb(tokens.count)
    map = _Verb(tokens.map)
    for_each = _Verb(tokens.for_each)
    collect = _Verb(tokens.collect)


class DebugFace(Face[How]):
    """An action that does nothing."""

    __slots__ = ()

    log = _Verb(debug.log)


class Faces(Generic[How]):
    """All groups. Whoever has them knows how to `_do` what is asked."""

    __slots__ = ()

    def _do(self, ask: Ask[Any], /) -> Any:
        raise NotImplementedError

    @property
    def stack(self) -> StackFace[How]:
        return StackFace(self._do)

    @property
    def space(self) -> SpaceFace[How]:
        return SpaceFace(self._do)

    @property
    def source(self) -> SourceFace[How]:
        return SourceFace(self._do)

    @property
    def agents(self) -> AgentsFace[How]:
        return AgentsFace(self._do)

    @property
    def game(self) -> GameFace[How]:
        return GameFace(self._do)

    @property
    def loop(self) -> LoopFace[How]:
        return LoopFace(self._do)

    @property
    def rules(self) -> RulesFace[How]:
        return RulesFace(self._do)

    @property
    def token(self) -> TokenFace[How]:
        return TokenFace(self._do)

    @property
    def tokens(self) -> TokensFace[How]:
        return TokensFace(self._do)

    @property
    def debug(self) -> DebugFace[How]:
        return DebugFace(self._do)
