"""The battery for methods, which a third-party method can run on itself.

    from letheon.testing import check_method
    check_method("my_objective")
    check_method("my_scope", kind="scope", options={"layers": "1-2"})

    with Processes() as two:  # the weights in shards over two processes
        check_shards(two, "my_objective", "objective", {})

All checks run on the embedded tiny model in a minute or less, without the network. Options that a
method needs on a model of four layers stand in its own file: `@method(..., tiny={"layer": 2})`.
"""

from letheon.testing.battery import check_method as check_method
from letheon.testing.pool import Processes as Processes
from letheon.testing.samples import sample_request as sample_request
from letheon.testing.shards import check_shards as check_shards
from letheon.testing.trial import CheckFailed as CheckFailed
