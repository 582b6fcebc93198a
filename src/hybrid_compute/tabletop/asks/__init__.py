"""The token actions as typed functions, a module for each group: `engine.dispatch(stack.draw(5))` is `list[Token]`."""
