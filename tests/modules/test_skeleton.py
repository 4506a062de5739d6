"""momentum_push/modules/skeleton.py"""

import asyncio

from momentum_push.modules import Lifecycle
from momentum_push.modules.skeleton import Skeleton
from tests.helpers.records import Scope


def test_the_skeleton_is_a_module() -> None:
    async def scene() -> None:
        lifecycle = Lifecycle([Skeleton(Scope("apn_logger", "one"))])
        assert lifecycle.validate(None) == []
        await lifecycle.start()
        assert lifecycle.running == ['skeleton "one"']
        await lifecycle.reload(None)
        assert (await lifecycle.stop()).is_clean

    asyncio.run(scene())
