"""Components of WebAssembly: functions of records, lists and texts, as their WIT describes them.

function         `WasmComponent`, and the tasks that it offers
ready            a function that can be called, and the functions of the host that it may call
guest            one component that is alive
wit              from a type hint and a type of WIT to how values cross
shapes, compound how they do: single values, and what is made of others
"""
